"""How often a prompt's face shows the emotion that its reader would expect.

    python benchmarks/prompts.py [--wrong] [--json FILE]

None of the prompts is among the reader's sentences, but the same people wrote both. Two thirds were written before the
reader was tuned and the rest at its end; its settings were chosen on its own sentences, each left out in turn, and on
other prompts, except ``DENIAL``, for which two of these counted too. A face counts as the emotion whose action units
it is nearest to by cosine, or as neutral when there is hardly anything on it. Where two emotions are given, either
will do.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from table import add_json_option, report, row

from magictalk.prompt import PromptReader, style_of_prompt
from magictalk.style import EMFACS, units

PROMPTS = [
    ("he has just won the lottery", "happy"),
    ("beaming with pride at her daughter's wedding", "happy"),
    ("laughing at an old joke among friends", "happy"),
    ("she cannot stop grinning", "happy"),
    ("warm and friendly, like a host greeting guests", "happy"),
    ("over the moon", "happy"),
    ("a child unwrapping presents", "happy surprised"),
    ("cheerful and full of energy", "happy"),
    ("speak with delight, as if it were the best day of your life", "happy"),
    ("content and at peace with the world", "happy neutral"),
    ("she whispers, close to tears", "sad"),
    ("heartbroken after the breakup", "sad"),
    ("he mourns his late wife", "sad"),
    ("lonely and homesick", "sad"),
    ("her voice breaks with grief", "sad"),
    ("downcast, the hope gone out of him", "sad"),
    ("somebody who has lost everything", "sad"),
    ("melancholy, remembering better days", "sad"),
    ("disappointed by the result", "sad"),
    ("he apologises, full of regret", "sad"),
    ("furious that he was cheated", "angry"),
    ("she is shouting at the referee", "angry"),
    ("grinding his teeth with rage", "angry"),
    ("irritated by the noise next door", "angry"),
    ("a boss tearing into an employee", "angry"),
    ("seething, barely holding it together", "angry"),
    ("outraged at the injustice of it", "angry"),
    ("fed up with all the excuses", "angry"),
    ("threatening, as if about to start a fight", "angry"),
    ("you broke my phone and I want it paid for!", "angry"),
    ("there is somebody in the house", "fear"),
    ("scared to death", "fear"),
    ("trembling, hunted through the woods", "fear"),
    ("she is anxious about the exam", "fear"),
    ("panicking because the plane is going down", "fear"),
    ("as if a ghost stood in front of her", "fear surprised"),
    ("dreading the doctor's call", "fear"),
    ("a hostage pleading for his life", "fear sad"),
    ("he is afraid of spiders and one is on his arm", "fear"),
    ("nervous before going on stage", "fear"),
    ("that smells like rotten eggs", "disgust"),
    ("he has bitten into something mouldy", "disgust"),
    ("grossed out by the dirty bathroom", "disgust"),
    ("revolted", "disgust"),
    ("she finds a hair in her soup", "disgust"),
    ("nauseated by the sight of blood", "disgust fear"),
    ("ugh, take that filthy thing away", "disgust"),
    ("repelled by the slime on her hands", "disgust"),
    ("you would not believe what I just saw", "surprised"),
    ("jaw on the floor", "surprised"),
    ("astonished by the magician's trick", "surprised"),
    ("caught off guard by the question", "surprised"),
    ("wait, what? you two are married?", "surprised"),
    ("stunned by the news", "surprised"),
    ("wide-eyed with wonder", "surprised happy"),
    ("she never expected to see him again", "surprised"),
    ("looks down on everybody in the room", "contempt"),
    ("a smug, superior smirk", "contempt"),
    ("dripping with sarcasm", "contempt"),
    ("an aristocrat sneering at the peasants", "contempt"),
    ("dismissive, he thinks you are a fool", "contempt"),
    ("condescending, as if explaining it to an idiot", "contempt"),
    ("mocking his opponent", "contempt"),
    ("haughty and scornful", "contempt"),
    ("a man in a red hat", "neutral"),
    ("reading the weather forecast", "neutral"),
    ("matter-of-fact, no emotion", "neutral"),
    ("a woman with long brown hair in front of a bookshelf", "neutral"),
    ("calmly explaining how to change a tyre", "neutral"),
    ("close-up, studio lighting, 4k", "neutral"),
    ("the train leaves at half past nine", "neutral"),
    ("an accountant going through the figures", "neutral"),
    ("poker face", "neutral"),
    ("a professor giving a lecture on geology", "neutral"),
    ("not angry at all", "neutral"),
    ("he isn't sad", "neutral"),
    ("she does not look frightened", "neutral"),
    ("without any joy", "neutral sad"),
    ("not happy but furious", "angry"),
    ("no longer sad, now she is smiling", "happy"),
    ("the team scored in the last minute and the whole stadium sings", "happy"),
    ("a waiter who loves his work", "happy"),
    ("good-humoured, with a twinkle in the eye", "happy"),
    ("she tells her sister that the baby is healthy", "happy"),
    ("he has been laughing all evening", "happy"),
    ("a widow at the grave", "sad"),
    ("she reads his last letter", "sad"),
    ("nobody came to say goodbye", "sad"),
    ("a sorrowful ballad", "sad"),
    ("the war took both of his sons", "sad"),
    ("gloomy, like a rainy Sunday", "sad"),
    ("she yells that she has had enough", "angry"),
    ("a father shouting at a drunk driver", "angry"),
    ("resentful and bitter", "angry"),
    ("who scratched my car?", "angry"),
    ("losing her temper", "angry"),
    ("glaring at his rival with hatred", "angry"),
    ("the lights went out and something breathes behind her", "fear"),
    ("he is frightened of the dentist", "fear"),
    ("please, do not shoot", "fear"),
    ("nervously waiting for the surgeon", "fear"),
    ("she panics in the lift", "fear"),
    ("lost in a dark forest with wolves", "fear"),
    ("there is a fly in my drink, how revolting", "disgust"),
    ("the fridge smells of old fish", "disgust"),
    ("she gags at the sight of it", "disgust"),
    ("sickening and repulsive", "disgust"),
    ("changing a very dirty nappy", "disgust"),
    ("good heavens, how did you get here?", "surprised"),
    ("she did not see that coming", "surprised"),
    ("astounded by the price of the painting", "surprised"),
    ("he opens the door and everybody shouts surprise", "surprised happy"),
    ("completely bowled over", "surprised"),
    ("he scoffs at their efforts", "contempt"),
    ("a rich snob looking at beggars", "contempt"),
    ("full of disdain for amateurs", "contempt"),
    ("she smirks at his mistake", "contempt"),
    ("explains the rules of chess", "neutral"),
    ("a girl with a pearl earring", "neutral"),
    ("steady voice, neither happy nor sad", "neutral"),
]
MORE_AND_LESS = [
    ("extremely happy", "slightly happy"),
    ("furious", "a bit annoyed"),
    ("devastated", "somewhat sad"),
    ("terrified", "a little worried"),
    ("amused", "barely amused"),
    ("utterly disgusted", "mildly disgusted"),
    ("thunderstruck", "faintly surprised"),
    ("very angry", "angry"),
]
QUIET = [
    "she whispers, close to tears",
    "murmuring under his breath",
    "speaking softly so as not to wake the baby",
    "half asleep, mumbling",
]
LOUD = ["screaming at the top of her lungs", "yelling across the stadium", "bellowing orders"]
FAINT = 0.35
"""Length of coefficients below which a face counts as neutral; the faintest emotion at 0.35 has it."""


def nearest(face: NDArray[np.float32]) -> str:
    """The emotion that coefficients ``[52]`` are nearest to."""
    if np.linalg.norm(face) < FAINT:
        return "neutral"
    faces = {label: units(strengths) for label, strengths in EMFACS.items() if strengths}
    return max(faces, key=lambda label: float(face @ faces[label] / np.linalg.norm(faces[label])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wrong", action="store_true", help="also list the prompts that are read otherwise")
    add_json_option(parser)
    options = parser.parse_args()
    start = time.perf_counter()
    reader = PromptReader()
    loading = time.perf_counter() - start
    right: dict[str, list[bool]] = {}
    start = time.perf_counter()
    for text, expected in PROMPTS:
        found = nearest(style_of_prompt(text, reader).expressions[0])
        right.setdefault(expected.split()[0], []).append(found in expected.split())
        if options.wrong and not right[expected.split()[0]][-1]:
            print(f"{text}: {found}, expected {expected}; {reader.weigh(text)}")
    reading = (time.perf_counter() - start) / len(PROMPTS)
    strength = {t: np.linalg.norm(style_of_prompt(t, reader).expressions) for pair in MORE_AND_LESS for t in pair}
    lips = {text: style_of_prompt(text, reader).lips for text in QUIET + LOUD}
    every = [hit for hits in right.values() for hit in hits]
    report(
        "Prompts",
        [
            row("expected emotion, all prompts", 100 * np.mean(every), f"% of {len(every)}"),
            *(row(f"expected emotion, {e}", 100 * np.mean(hits), f"% of {len(hits)}") for e, hits in right.items()),
            row("more is more, less is less", np.mean([strength[a] > strength[b] for a, b in MORE_AND_LESS]) * 100,
                f"% of {len(MORE_AND_LESS)}"),
            row("lips smaller when quiet, larger when loud",
                np.mean([lips[t] < 0.95 for t in QUIET] + [lips[t] > 1.05 for t in LOUD]) * 100, f"% of {len(lips)}"),
            row("loading", loading, "s"),
            row("reading a prompt", 1000 * reading, "ms"),
        ],
        options.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
