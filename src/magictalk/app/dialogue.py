"""The command ``dialogue``: parse, call the library, print."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from magictalk.app.output import check_free, progress, whole
from magictalk.errors import MagicTalkError, OptionError

if TYPE_CHECKING:
    from magictalk.dialogue.performance import Dialogue
    from magictalk.dialogue.script import Cast, Script
    from magictalk.dialogue.writer import Endpoint


def dialogue_command(
    script: Annotated[
        Path | None, typer.Argument(metavar="[SCRIPT]", help="Who says what, a YAML file; see the README.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".mp4, .webm, a folder for pictures, or shot_%05d.png.")
    ] = Path("dialogue.mp4"),
    layout: Annotated[
        Literal["side-by-side", "shots"], typer.Option(help="Everybody in a row, or cut to who speaks.")
    ] = "side-by-side",
    subtitles: Annotated[
        Literal["srt", "burn", "both", "none"],
        typer.Option(help="srt: a file beside the video. burn: drawn into the picture."),
    ] = "srt",
    font: Annotated[Path | None, typer.Option(metavar="FILE", help="Font of drawn subtitles, .ttf or .otf.")] = None,
    gap: Annotated[float, typer.Option(metavar="SECONDS", help="Between lines that state no pause.")] = 0.35,
    shortest_shot: Annotated[float, typer.Option(metavar="SECONDS", help="Least length of a shot.")] = 1.0,
    height: Annotated[int, typer.Option(metavar="PX", help="Of the video; even.")] = 512,
    drive: Annotated[
        Literal["emodiff", "emodiff-unrefined", "audio2bs", "variational"],
        typer.Option(help="What moves them, as for animate; audio2bs is quick and takes no emotions."),
    ] = "emodiff",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of blinks, gaze, head motion and nods.")] = 0,
    label: Annotated[bool, typer.Option("--label", help='Draw a visible "AI-generated" mark.')] = False,
    write: Annotated[
        str | None, typer.Option(metavar="PROMPT", help="Let a language model write the lines, about this.")
    ] = None,
    character: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PORTRAIT[,VOICE]", help="With --write: who takes part, once each; or SCRIPT with characters."
        ),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="With --write: a server of OpenAI's chat completions.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="With --write: the model to ask.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --write: environment variable that holds the key.")
    ] = None,
    lines: Annotated[int, typer.Option(metavar="N", help="With --write: about how many lines.")] = 8,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="With --write: wait so long.")] = 120.0,
    script_only: Annotated[bool, typer.Option("--script-only", help="With --write: stop when it is written.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a job that broke off.")] = False,
) -> None:
    """Make the characters of SCRIPT talk with each other; or let a language model write it first."""
    from magictalk.dialogue.performance import perform
    from magictalk.dialogue.subtitles import srt

    titles = _beside(output, ".srt") if subtitles in ("srt", "both") and not script_only else None
    for path in filter(None, (titles, output if output.suffix and not script_only else None)):
        check_free(path, overwrite or resume)
    given: Path | Script
    if write is not None:
        if resume:
            raise OptionError("--resume goes on with a script that is written; give it as SCRIPT, without --write")
        cast = _cast(script, character)
        asked = _endpoint(endpoint, model, api_key_env, timeout)
        kept = _beside(output, ".yaml")
        if script is not None and kept.exists() and kept.samefile(script):
            raise OptionError(f"what is written would replace {script}; give another --output, whose name it gets")
        given = _written(write, cast, asked, lines, kept, overwrite)
        if script_only:
            return
    elif script is None:
        raise OptionError("no script; give a YAML file, or --write PROMPT with --endpoint URL")
    elif character or endpoint or model or api_key_env or script_only:
        raise OptionError("--character, --endpoint, --model, --api-key-env and --script-only go with --write PROMPT")
    else:
        given = script

    made = perform(
        given,
        layout=layout,
        gap=gap,
        shortest_shot=shortest_shot,
        height=height,
        burn=subtitles in ("burn", "both"),
        font=font,
        drive=drive,
        seed=seed,
        label=label,
    )
    _save(made, output, overwrite, resume)
    print(output)
    if titles is not None:
        with whole(titles, overwrite=True) as part:  # that it may be replaced was made sure of before the work
            part.write_text(srt(made.cues), "utf-8")
        print(titles)


def _save(made: Dialogue, output: Path, overwrite: bool, resume: bool) -> None:
    try:
        with progress() as told:
            made.save(
                output,
                overwrite=overwrite,
                resume=resume,
                progress=lambda done, _: told("frames", done, made.frame_count),
            )
    except (MagicTalkError, KeyboardInterrupt) as error:
        kept = f"; {made.resume_hint}" if made.resume_hint else ""
        if isinstance(error, KeyboardInterrupt):
            print(f"stopped{kept}", file=sys.stderr)
            raise SystemExit(130) from None
        raise type(error)(f"{error}{kept}") from error


def _cast(script: Path | None, characters: list[str] | None) -> Cast:
    from magictalk.dialogue.script import Cast
    from magictalk.dialogue.writer import cast_of

    if characters and script is None:
        return cast_of(characters)
    if script is None or characters:
        raise OptionError("--write needs the characters: --character NAME=PORTRAIT for each, or a SCRIPT with them")
    return Cast.open(script)


def _endpoint(url: str | None, model: str | None, key_name: str | None, timeout: float) -> Endpoint:
    from magictalk.dialogue.writer import Endpoint

    if url is None:
        raise OptionError("--write needs --endpoint URL, such as http://localhost:8000/v1")
    if key_name is not None and key_name not in os.environ:
        raise OptionError(f"no environment variable {key_name}; set it to the endpoint's key")
    return Endpoint(url, model, None if key_name is None else os.environ[key_name], timeout)


def _written(prompt: str, cast: Cast, endpoint: Endpoint, lines: int, path: Path, overwrite: bool) -> Script:
    """The script that a model writes, kept in a file before anything else is done with it."""
    from magictalk.dialogue.writer import write

    check_free(path, overwrite)
    script = write(prompt, cast, endpoint, lines)
    with whole(path, overwrite) as part:
        part.write_text(script.yaml(path.parent), "utf-8")
    print(path)
    return script


def _beside(output: Path, suffix: str) -> Path:
    """A name beside the output: its own without suffix and frame number."""
    return output.with_name((output.stem.split("%")[0].rstrip("_-. ") or "dialogue") + suffix)
