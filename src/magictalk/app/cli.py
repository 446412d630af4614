"""The command line: parse, call the library, print."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

import magictalk
from magictalk.app import data, dialogue, evaluation, weights
from magictalk.app.output import whole
from magictalk.errors import MagicTalkError, MagicTalkWarning, OptionError

if TYPE_CHECKING:
    from magictalk.animation import Animation, Size
    from magictalk.drive.speakers import Drive
    from magictalk.render.diffusion.render import Drawing, Networks

app = typer.Typer(
    help="A portrait and a voice become a talking video.", add_completion=False, pretty_exceptions_enable=False
)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")
app.command("evaluate")(evaluation.evaluate_command)
app.command("benchmark")(evaluation.benchmark_command)
app.command("dialogue")(dialogue.dialogue_command)


def _box(value: str) -> tuple[float, float, float, float]:
    try:
        x, y, w, h = (float(v) for v in value.split(","))
    except ValueError as cause:
        raise typer.BadParameter(f"{value!r} is not x,y,width,height in pixels") from cause
    return x, y, w, h


def _size(value: str) -> Size:
    if value == "native":
        return "native"
    if not value.isdecimal():
        raise typer.BadParameter(f"{value!r} is neither native nor a number of pixels")
    return int(value)


PortraitPath = Annotated[Path, typer.Argument(metavar="PORTRAIT", help="A picture with a face.", show_default=False)]
Number = Annotated[int | None, typer.Option("--face", min=1, help="Which face, from left to right; else the largest.")]
FaceBox = Annotated[
    Any, typer.Option(parser=_box, metavar="X,Y,W,H", help="Where the face is, in pixels, if it is not found.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
Seed = Annotated[int, typer.Option(min=0, help="Of blinks, gaze, brows and head motion.")]


Emotion = Annotated[
    str | None,
    typer.Option(metavar="NAME [0-1.5]", help='An emotion and how much: "happy", "angry 0.5", "sad + fear".'),
]
StyleFile = Annotated[
    Path | None, typer.Option("--style", metavar="FILE", help="A picture or video of the expression to speak with.")
]
Prompt = Annotated[
    str | None, typer.Option(metavar="TEXT", help='The expression in words: "she whispers, close to tears".')
]
Timeline = Annotated[
    str | None, typer.Option(metavar="TEXT", help='Emotions over time: "0s neutral, 4s happy 0.8, 9s surprised".')
]
Guidance = Annotated[
    float | None,
    typer.Option(min=0.0, max=10.0, help="How strictly voice and emotion are followed.", show_default=False),
]
DriveName = Annotated[
    Literal["emodiff", "emodiff-unrefined", "audio2bs", "variational", "mcdm"] | None,
    typer.Option(
        help="What makes the motion: emodiff; or, without emotions, audio2bs (faster), variational (magic-talk's) or "
        "mcdm (its motion prior).",
        show_default=False,
    ),
]
_OWNERS = {
    "contour": ("magic-talk",),
    "portraits": ("portrait-talk",),
    "blend": ("portrait-talk",),
    "anchor": ("portrait-talk", "mcdm"),
    "alpha": ("mcdm",),
    "text_weight": ("magic-talk", "portrait-talk"),
    "identity_weight": ("magic-talk", "portrait-talk"),
    "weights": ("magic-talk", "portrait-talk"),
}
"""Options that not every diffusion system has, and those that do."""
DRIVES: dict[str, Drive] = {
    "emodiff": "emodiff", "magic-talk": "variational", "portrait-talk": "variational", "mcdm": "mcdm"
}  # fmt: skip
"""Whose motion a system uses unless told otherwise."""


def _weight(what: str) -> Any:
    return typer.Option(min=0.0, max=4.0, help=f"How much {what} counts for the diffusion.")


def _amplitude(what: str) -> Any:
    return typer.Option(min=0.0, max=2.0, help=f"Amplitude of {what}: 1 as made, 0 still.")


@app.command("animate")
def animate_command(
    portrait: PortraitPath,
    speech: Annotated[Path | None, typer.Argument(metavar="[SPEECH]", help="A sound, or a video with sound.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".mp4, .webm, a folder for pictures, or shot_%05d.png.")
    ] = Path("out.mp4"),
    text: Annotated[str | None, typer.Option(help="Say this instead of SPEECH.")] = None,
    voice: Annotated[str, typer.Option(metavar="LANG", help="Language of --text: en, de, fr, cmn ...")] = "en",
    face: Number = None,
    face_box: FaceBox = None,
    size: Annotated[
        Any, typer.Option(parser=_size, metavar="native|N", help="The picture's own, or N pixels on its longer side.")
    ] = "native",
    lips: Annotated[float, _amplitude("the mouth's motion")] = 1.0,
    head: Annotated[float, _amplitude("the head's motion")] = 1.0,
    blink: Annotated[float, _amplitude("blinks")] = 1.0,
    emotion: Emotion = None,
    style: StyleFile = None,
    prompt: Prompt = None,
    timeline: Timeline = None,
    guidance: Guidance = None,
    drive: DriveName = None,
    system: Annotated[
        Literal["emodiff", "magic-talk", "portrait-talk", "mcdm"],
        typer.Option(
            help="emodiff moves the picture's own pixels; the others generate them by diffusion: magic-talk and "
            "portrait-talk as --prompt says, mcdm clip by clip for long videos."
        ),
    ] = "emodiff",
    init: Annotated[
        Literal["rig", "noise"] | None,
        typer.Option(
            help="What the diffusion begins with: warped frames under noise (rig), or noise, as in the papers."
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="How much noise covers those frames: 0 keeps them, 1 hides them."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Of the denoising: 15, or 25 with --weights.", show_default=False),
    ] = None,
    text_weight: Annotated[float | None, _weight("the prompt")] = None,
    identity_weight: Annotated[float | None, _weight("who it is")] = None,
    contour: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture of a head whose outline magic-talk keeps.")
    ] = None,
    more: Annotated[
        list[Path] | None,
        typer.Option(
            "--portrait", metavar="FILE", help="A further picture of the person for portrait-talk; may be repeated."
        ),
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE|TIMES",
            help="With a --portrait of somebody else: how far portrait-talk goes towards them, '0.3' or '0s 0; 4s 1'.",
        ),
    ] = None,
    anchor: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="How much of the portrait portrait-talk and mcdm see beside the frames before: 0.5.",
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="How much of what it remembers mcdm keeps from frame to frame: 0.1."),
    ] = None,
    full_tier: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FOLDER", help="Draw at 512 pixels, by what magictalk weights pull fetched."),
    ] = None,
    driving: Annotated[Path | None, typer.Option(metavar="VIDEO", help="Take motion from the face in a video.")] = None,
    driving_parts: Annotated[
        Literal["upper", "head", "all"],
        typer.Option(
            help="What --driving gives: head, brows, eyes and cheeks; the head only; or all, and its sound without "
            "SPEECH."
        ),
    ] = "upper",
    motion: Annotated[Path | None, typer.Option(metavar="FILE", help="Motion from a .csv or .npz file.")] = None,
    seed: Seed = 0,
    label: Annotated[bool, typer.Option("--label", help='Draw a visible "AI-generated" mark.')] = False,
    start: Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="Skip this much of SPEECH.")] = 0.0,
    duration: Annotated[float | None, typer.Option(metavar="SECONDS", help="Use this much of SPEECH.")] = None,
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a job that broke off.")] = False,
) -> None:
    """Make PORTRAIT speak SPEECH, or a text."""
    options = {
        "init": init,
        "contour": contour,
        "strength": strength,
        "steps": steps,
        "text_weight": text_weight,
        "identity_weight": identity_weight,
        "weights": full_tier,
        "portraits": more,
        "blend": blend,
        "anchor": anchor,
        "alpha": alpha,
    }
    named: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    drawing: Drawing | None = None
    networks: Networks | None = None
    if system != "emodiff":
        for name in named:
            owners = _OWNERS.get(name, (system,))
            if system not in owners:
                raise OptionError(
                    f"--{_option(name)} is {' and '.join(owners)}'s, and {system} was asked for; leave it out"
                )
        if named.pop("weights", None):
            from magictalk.render.diffusion import tiers
            from magictalk.render.diffusion.denoising import Sampling

            networks = tiers.full(cast(Path, full_tier), identity=identity_weight != 0, motion=system == "magic-talk")
            named.setdefault("steps", Sampling().steps)
            if system == "magic-talk":
                named["shared"] = Sampling().shared
        named |= {} if guidance is None else {"guidance": guidance}
        drawing = _drawing_of(system, prompt, seed, named)
        prompt = guidance = None
    elif named:
        raise OptionError(
            f"--{_option(next(iter(named)))} is the diffusion's, and emodiff was asked for; add --system "
            f"{' or '.join(_OWNERS.get(next(iter(named)), ('magic-talk', 'portrait-talk', 'mcdm')))}"
        )
    with _warnings_said():
        made = magictalk.animate(
            portrait,
            speech,
            text=text,
            voice=voice,
            face=face,
            face_box=face_box,
            size=size,
            lips=lips,
            head=head,
            blink=blink,
            emotion=emotion,
            style=style,
            prompt=prompt,
            timeline=timeline,
            guidance=guidance,
            drive=drive or DRIVES[system],
            driving=driving,
            driving_parts=driving_parts,
            motion=motion,
            seed=seed,
            label=label,
            start=start,
            duration=duration,
            drawing=drawing,
            networks=networks,
        )
    if networks and drawing and networks.diffusion.device.type == "cpu":
        hours = tiers.hours(networks, made.frame_count or 25, drawing.sampling)
        print(f"no GPU: the full tier will take about {hours:.1f} hours on this processor", file=sys.stderr)
    try:
        with _progress(made.frame_count, made) as progress:
            saved = made.save(output, overwrite=overwrite, resume=resume, progress=progress)
    except (MagicTalkError, KeyboardInterrupt) as error:
        kept = f"; {made.resume_hint}" if made.resume_hint else ""
        if isinstance(error, KeyboardInterrupt):
            _leave(130, f"stopped{kept}")
        _leave(2, f"error: {error}{kept}")
    print(saved)


def _drawing_of(system: str, prompt: str | None, seed: int, named: dict[str, Any]) -> Drawing:
    if system == "magic-talk":
        from magictalk.systems import magic_talk

        return magic_talk.drawing_of(prompt, seed=seed, **named)
    if system == "mcdm":
        from magictalk.systems import mcdm

        return mcdm.drawing_of(prompt=prompt, seed=seed, **named)
    from magictalk.systems import portrait_talk

    return portrait_talk.drawing_of(prompt, seed=seed, **named)


@contextmanager
def _warnings_said() -> Iterator[None]:
    """What the library warns of, a line each."""
    with warnings.catch_warnings(record=True) as said:
        yield
    for each in said:
        if issubclass(each.category, MagicTalkWarning):
            print(f"warning: {each.message}", file=sys.stderr)


def _option(name: str) -> str:
    return {"portraits": "portrait"}.get(name, name.replace("_", "-"))


@app.command("motion")
def motion_command(
    recording: Annotated[Path, typer.Argument(metavar="SPEECH|VIDEO", help="A sound or a video.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help=".csv (Live Link Face) or .npz (exact).")] = Path(
        "motion.csv"
    ),
    source: Annotated[
        Literal["auto", "speech", "video"],
        typer.Option(
            "--from", help="Make it from the sound, or read it off the face; auto: off the face if one shows."
        ),
    ] = "auto",
    emotion: Emotion = None,
    style: StyleFile = None,
    prompt: Prompt = None,
    timeline: Timeline = None,
    guidance: Guidance = None,
    drive: DriveName = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write the motion of a face that says SPEECH, or that VIDEO shows."""
    from magictalk.animation import motion_of

    with whole(output, overwrite) as part:
        motion = motion_of(
            recording,
            source,
            seed,
            emotion=emotion,
            style=style,
            prompt=prompt,
            timeline=timeline,
            guidance=guidance,
            drive=drive or "emodiff",
        )
        motion.save(part)
    print(output)


@app.command("inspect")
def inspect_command(
    portrait: PortraitPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet to write, .png or .jpg.")] = Path(
        "sheet.png"
    ),
    face: Number = None,
    face_box: FaceBox = None,
    overwrite: Overwrite = False,
) -> None:
    """Show what is found in PORTRAIT: faces, mesh, pose, crop, expression."""
    from PIL import Image

    from magictalk.render.sheet import inspect_sheet

    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise OptionError(f"cannot write a sheet as {output.name}; use a name that ends in .png or .jpg")
    with whole(output, overwrite) as part:
        Image.fromarray(inspect_sheet(magictalk.Portrait.open(portrait, face, face_box))).save(part)
    print(output)


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"magictalk {magictalk.__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


class _FramesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} frames/s" if task.speed else "starting", style="progress.data.speed")


@contextmanager
def _progress(total: int | None, made: Animation) -> Iterator[Any]:
    """A bar on the terminal, nothing where stderr is a file; yields what is to be told of each frame."""
    from magictalk.animation import GeneratedAnimation

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _FramesPerSecond(), TimeRemainingColumn(),
        TextColumn("left"),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("frames", total=total)
        if isinstance(made, GeneratedAnimation):
            steps = progress.add_task("denoising")
            made.denoising = lambda done, expected: progress.update(steps, completed=done, total=expected)
        yield lambda done, expected: progress.update(task, completed=done, total=expected)


def _leave(code: int, message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit code 0, 2 for what the user can mend (one line on stderr), 130 for Ctrl-C."""
    try:
        app(arguments, prog_name="magictalk", standalone_mode=False)
    except MagicTalkError as error:
        _leave(2, f"error: {error}")
    except typer.TyperException as error:
        _leave(2, f"error: {error.format_message().rstrip('.')}; see magictalk --help")
    except (KeyboardInterrupt, typer.Abort):
        _leave(130, "stopped")


if __name__ == "__main__":
    main()
