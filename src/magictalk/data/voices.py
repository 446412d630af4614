"""Endless speech with known phonemes: random word salads in many languages and voices.

Real talking videos with clean sound are few. Synthetic speech is free, its phoneme times are exact,
and a phoneme says much about the lips: /p b m/ close them, /u w/ round them, /a/ opens the jaw.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from magictalk.audio import tts
from magictalk.audio.tts import Phoneme
from magictalk.motion import FPS

WORDS = {
    "en": (
        "about above animal apple baby back balloon because before big blue boat book both bread bring brother "
        "bubble build butter camera change cheese church clean could cup dark day dream drop earth easy eight "
        "enough ever every family farmer feather fifty finger fish five flower foam food forget frame friend "
        "from garden gentle give glove good green group happy have heavy help home hope house humble jam jump "
        "keep kitchen lamp laugh leave lemon lip little long love make many map maybe measure member might mommy "
        "moon more mouth move much music my name never new number of open orange other oven over pack paper "
        "people phone picture place please pleasure point pop potato pretty problem purple push put question "
        "quick rabbit rain remember river room rubber sample school see seven shape she ship shoe shop should "
        "simple sister sleep small snow some soup spoon spring stop story summer sweep table tape teacher temple "
        "thank that the these thing think thought three through time tomorrow top tree trouble umbrella under up "
        "use value very village visit voice vowel warm was water wave we weather week wheel when where which "
        "whisper white why window with woman wonder work would yellow yes you young zebra zoo"
    ),
    "de": (
        "aber abend alle apfel arbeit auch auf baum beide bilder bitte blume brauchen brot bruder bücher bunt "
        "butter danke das doch drei durch eben ein fahren familie fenster feuer finden fisch fluss frau freund "
        "früh fünf für geben gemüse gut haben haus heute himmel hoffen hund immer jahr kaffee kaum kind klein "
        "kommen können lampe leben lieber machen mama mehr mein mensch milch mittag möchten morgen musik mutter "
        "nehmen nicht öffnen oben papa papier pfeffer platz probe puppe quelle regen rufen sagen sommer schiff "
        "schön schule schwimmen sehen sieben sonne spielen sprechen stimme straße suppe tisch über um und unten "
        "vater viel vogel vor wasser weit wenig wie winter woche wollen wunder zeit zimmer zusammen zwei zwölf"
    ),
    "fr": (
        "abeille acheter aimer aller ami amour année août appeler après au aujourd'hui avec banane beau beaucoup "
        "bébé bien blanc bleu boire bon bonjour bouche bras bureau café campagne chambre chanson chat chaud "
        "chemin cheval chose comme comprendre dehors demain deux doux eau école écouter elle enfant ensemble été "
        "famille femme fenêtre feu feuille fleur fou frère froid fromage gâteau grand habiter heureux hiver "
        "homme huit ici île jambe jardin jeune joue jour lampe langue légume lent lettre loin lumière lune "
        "maison maman manger matin mère mieux monde montagne mot musique neuf nuage nuit œuf oiseau ombre oncle "
        "ouvrir pain papa parler petit peu peur plage pluie pomme pont porte poule pouvoir première problème "
        "quand quatre robe rouge rue simple soleil sous table temps tomber toujours trouver un vache vent vie "
        "ville vivre voiture vous"
    ),
    "es": (
        "abeja abrir agua ahora amigo amor año árbol arriba azul bailar barco beber blanco boca bonito bueno "
        "cabeza café calle cama camino campo casa cielo ciudad comer como comprar corazón cuando dedo deporte "
        "dulce escuela familia feliz flor frío fuego fruta gato gente grande hablar hacer hambre hermano hombre "
        "hoy huevo iglesia jabón jamás joven juego jugar leche libro limpio llamar lluvia luna madre mañana mar "
        "mejor mesa mimo momento montaña mucho mujer mundo música nada niño noche nombre nube nuevo nunca ojo "
        "otro padre palabra pan papel pelo pequeño perro pez playa pobre poco problema pueblo puerta querer "
        "rápido río rojo ropa saber semana siempre sol sombra sopa sueño también tiempo tierra todo trabajo "
        "tumba uva vaca ventana verde viaje vida viento voz zapato"
    ),
    "it": (
        "abbiamo acqua albero allora amare amico ancora anno aprire bambino bello bere bianco bocca buono caffè "
        "caldo camera cane casa cena chiave cibo cielo città colore come comprare cuore domani donna dove dopo "
        "erba fame famiglia fare felice festa figlio fiore fiume fuoco gamba gatto gente giallo giorno giovane "
        "grande guardare inverno lampada latte lavoro leggere letto libro luna lupo madre mamma mangiare mano "
        "mare mattina mela meglio mese mondo montagna musica nebbia neve notte nove numero nuvola occhio oggi "
        "ombra padre pane parola passo pesce piccolo pioggia pomodoro ponte porta primo problema ragazzo rosso "
        "sabato scuola sempre sera sole sopra spiaggia stella strada subito tavolo tempo terra tomba tutto uomo "
        "uovo vedere vento verde viaggio vita voce zio"
    ),
    "pt": (
        "abelha abrir agora água alto amanhã amigo amor ano aqui azul bairro banho beber belo boca bolo bom "
        "bonito braço branco cabeça café cama caminho campo casa cedo céu chuva cidade comer comprar coração dia "
        "doce dormir escola família feliz festa filho flor fogo frio fruta gato gente grande homem hoje igreja "
        "irmão janela jardim jovem lâmpada leite livro longe lua mãe manhã mapa mar melhor menino mesa montanha "
        "muito mulher mundo música nada noite nome nunca nuvem olho ombro ontem outro ovo pai palavra pão papel "
        "parede peixe pequeno pessoa pomba ponte porta pouco praia problema quando rápido rio roupa rua saber "
        "sempre sol sombra sonho tempo terra trabalho tudo uva vento verde viagem vida voz"
    ),
    "pl": (
        "alfabet babcia bardzo biały brat brama być chleb chmura chodzić ciepło czas człowiek dobry dom drzewo "
        "dwa dziecko dziękuję głowa góra herbata imię jabłko jeden jesień jutro kawa kobieta kolor koń kot "
        "książka kwiat lampa las lato lubić ludzie mama mapa miasto mleko moja morze most mówić muzyka nigdy noc "
        "nowy obok obraz ogień ogród okno oko pan papier pies pięć piękny pić pogoda pole pomoc poniedziałek "
        "praca prosić przez ptak pytać ręka robić rodzina rok ryba rzeka samochód serce siedem słońce słowo "
        "śnieg stół szkoła światło tata trzy tydzień ulica usta wczoraj wesoły wiatr wiedzieć wieczór wiosna "
        "woda wszystko zawsze zima złoty zupa zwierzę życie"
    ),
    "ru": (
        "бабушка банан бегать белый берег большой брат будет буква бумага быстро вагон важный вдруг ветер вечер "
        "видеть вместе вода воздух время всегда где говорить голова город гость дверь девочка день дерево дом "
        "дорога друг думать если ещё жизнь забыть завтра звезда земля зима знать зуб имя искать каждый камень "
        "книга комната кофе красивый кто лампа лес лето лицо лодка любить люди мама море мост музыка мыло мясо "
        "найти небо ночь обед облако огонь озеро окно осень ответ папа первый песня письмо пить плавать поезд "
        "поле помнить праздник привет птица работа радуга река рука рыба самый свет сегодня семья сердце сила "
        "слово снег собака солнце стол суп тепло трава тумба улица умный утро хлеб хороший цвет чай человек "
        "школа яблоко язык"
    ),
    "cmn": (
        "你好 朋友 妈妈 爸爸 北京 上海 苹果 面包 飞机 火车 学校 老师 学生 今天 明天 昨天 天气 下雨 太阳 月亮 "
        "漂亮 喜欢 音乐 跑步 吃饭 喝水 睡觉 工作 公司 电话 手机 电脑 看书 中国 世界 孩子 房子 窗户 门口 桌子 "
        "红色 白色 绿色 黑色 大家 非常 因为 所以 但是 如果 我们 他们 什么 为什么 怎么 多少 蓝天 白云 春天 夏天 "
        "秋天 冬天 牛奶 鸡蛋 米饭 蔬菜 马上 慢慢 每个 明白 名字 不怕 部分 办法 帮忙 普通 朋友们 安排 比赛 表演"
    ),
    "ja": (
        "あめ いぬ うみ えき おとこ かばん きもち くるま けさ こども さくら しごと すし せかい そら たまご "
        "ちいさい つくえ てがみ ともだち なまえ にほん ぬま ねこ のみもの はな ひと ふゆ へや ほし まいにち みず "
        "むかし めがね もも やま ゆき よる らいねん りんご るす れきし ろうか わたし がっこう ぎんこう ぐあい "
        "げんき ごはん ざっし じかん ずっと ぜんぶ ぞう だいがく でんわ どうぞ ばんごう びょういん ぶどう "
        "べんきょう ぼうし ぱん ぴかぴか ぷりん ぺん ぽすと あたらしい おもしろい たべます のみます みます "
        "あそびます ありがとう こんばんは さようなら"
    ),
    "ko": (
        "가방 나무 다리 라면 마음 바다 사람 아침 자동차 차 커피 토요일 피아노 하늘 강아지 고양이 공부 구름 그림 "
        "기차 김치 꽃 나비 날씨 내일 노래 눈물 단어 도시 동생 라디오 머리 모자 무지개 문제 물 밥 방법 배 버스 "
        "병원 봄 부모 비 빵 사과 생각 선생님 소금 손 시간 아버지 안녕하세요 어머니 여름 영화 오늘 우유 음악 이름 "
        "입 저녁 전화 점심 집 책 친구 컴퓨터 학교 한국 형 화요일"
    ),
    "ar": (
        "أب أم باب بيت بحر برد بنت تفاح جبل جميل حب حليب خبز درس ذهب رأس زهرة سماء سمك شمس شجرة صباح صديق ضوء "
        "طعام طفل ظل عام عمل غرفة فم فرح قلب قمر كتاب كلب لبن ليل ماء مدينة مدرسة مساء مفتاح نهر نوم هواء وجه "
        "وردة ولد يد يوم مرحبا شكرا كبير صغير جديد موز مطر بطيخ ممتاز مبروك"
    ),
    "hi": (
        "अब आम आज आप इधर ईमान उम्र ऊपर एक और कल काम किताब कौन खाना गाना घर चाय चाँद छोटा जल जीवन झील टमाटर ठंड "
        "डाक ढोल तारा थोड़ा दिन दूध धन नदी नमस्ते नाम पानी पिता पेड़ फल फूल बच्चा बहुत बात बाग भाई भूख मछली माता "
        "मीठा मुख यह रात रोटी लाल लोग वह वन शहर शाम सब समय सूरज हम हवा हाथ मम्मी पापा बबूल"
    ),
    "tr": (
        "ağaç akşam anne araba arkadaş ayakkabı baba bahar balık baş beyaz bir biraz bugün bulut büyük cam çay "
        "çiçek çocuk dağ deniz dünya ekmek ev evet fındık fil gece gel göl güneş güzel hava hayat ışık iki iyi "
        "kalem kapı kardeş kedi kitap kış köpek köprü kuş limon lütfen mavi merhaba meyve mutlu müzik okul orman "
        "oyun öğretmen para pembe peynir portakal rüzgar saat sabah sev soğuk söz su süt şehir şimdi tavuk temiz "
        "umut uzun üç üzüm vakit var yağmur yaz yemek yol zaman"
    ),
    "nl": (
        "aap appel avond bal baby beer bloem boek boom boot boter brood broer bruin buiten deur dier dorp droom "
        "duif een emmer feest fiets geel geven goed groen groot haven hemel hond huis jaar jongen kaas kamer "
        "kind klein koffie komen lamp leven lezen lief lopen lucht maan maken mama meisje melk mens moeder mond "
        "mooi morgen muziek naam nieuw nooit ochtend oog oom papa paard pen poes pop probleem raam regen rivier "
        "rood schip school schrijven slapen spelen stem straat stoel tafel tijd trein tuin twee uur vader veel "
        "vis vlieger vogel vrij vrouw vuur warm water week weg wereld wind winter woord zee zeven zien zomer zon "
        "zuster"
    ),
    "sv": (
        "alla apa arbete barn bild bil björn blomma blå bok bord bra bro bror bröd båt dag dotter dröm djur du "
        "eld en fem fisk flicka flod fluga flyga fot fram frukt fönster få fågel gammal ge glad grön gå göra ha "
        "hav hem himmel hjärta hund hus höst idag ingen jag jobb jord kaffe katt kväll köpa lampa lycka lära "
        "läsa mamma man mat mjölk morgon moster mun musik måne namn natt ny nyckel och om ost pappa papper pojke "
        "problem på regn resa rum röd sak saker se sju sjunga skog skola snö sol sommar springa stad stjärna "
        "stor sång söt tid träd två under upp vacker vatten vi vinter väg värld öga öppna"
    ),
}
"""Common words of each language, to be shuffled into training speech; benchmarks speak sentences of their own."""

VISEMES = ("rest", "close", "bite", "tongue", "alveolar", "hiss", "hush", "back", "r", "w", "j", "h",
           "i", "e", "ae", "a", "schwa", "open-o", "o", "u", "y")  # fmt: skip
"""Classes of phonemes that look alike on the lips."""

_SYMBOLS = {
    "close": "pbmɓʙ",
    "bite": "fvɱʋɸβ",
    "tongue": "θð",
    "alveolar": "tdnlɾɫɭʈɖɳɬɮɺɻɽ",
    "hiss": "sz",
    "hush": "ʃʒɕʑʂʐ",
    "back": "kɡgŋxɣqχɢɴ",
    "r": "ɹrʀʁɚɝ",
    "w": "wʍɥ",
    "j": "jʎɲçcɟʝʲ",
    "h": "hɦʔħʕ",
    "i": "iɪɨ",
    "e": "eɛɘ",
    "ae": "æ",
    "a": "aɑɐʌɒä",
    "schwa": "əɜɤɯʊɵ",
    "open-o": "ɔ",
    "o": "o",
    "u": "uʉ",
    "y": "yʏøœ",
}
_CLASS_OF = {symbol: name for name, symbols in _SYMBOLS.items() for symbol in symbols}


def visemes_of(phoneme: str) -> tuple[str, ...]:
    """The lip shapes an IPA phoneme passes through: one, or two for a diphthong or an affricate.

    >>> visemes_of("ˈaɪ"), visemes_of("tʃ"), visemes_of("m")
    (('a', 'i'), ('alveolar', 'hush'), ('close',))
    """
    plain = unicodedata.normalize("NFD", phoneme)
    found = [_CLASS_OF[c] for c in plain if c in _CLASS_OF]
    shapes = [s for i, s in enumerate(found) if i == 0 or s != found[i - 1]]
    return tuple(shapes[:2]) if shapes else ("rest",)


@dataclass(frozen=True)
class Utterance:
    """Synthetic speech with lip shapes.

    Attributes:
        samples: float32 ``[N]`` at 16 kHz.
        visemes: float32 ``[T, 21]``, the share of each class of ``VISEMES`` in the 40 ms around each video frame.
    """

    samples: NDArray[np.float32]
    visemes: NDArray[np.float32]


def occupancy(phonemes: Sequence[Phoneme], frames: int) -> NDArray[np.float32]:
    """Share ``[frames, 21]`` of each viseme in the 40 ms around each frame of the 25 fps grid."""
    fine = 200  # steps a second
    per_frame = int(fine / FPS)
    shares = np.zeros((frames * per_frame, len(VISEMES)), np.float32)
    for phoneme in phonemes:
        shapes = visemes_of(phoneme.symbol)
        edges = np.round(np.linspace(phoneme.start, phoneme.end, len(shapes) + 1) * fine).astype(int)
        for shape, low, high in zip(shapes, edges[:-1], edges[1:], strict=True):
            shares[low:high, VISEMES.index(shape)] = 1
    shares[shares.sum(1) == 0, 0] = 1
    before = np.eye(1, len(VISEMES), dtype=np.float32).repeat(per_frame // 2, 0)
    return np.concatenate([before, shares])[: frames * per_frame].reshape(frames, per_frame, -1).mean(1)


def utterances(count: int, seed: int) -> Iterator[Utterance]:
    """Word salads: the languages in turn, every second one English, in random voices, speeds and pitches."""
    from scipy.signal import resample_poly

    rng = np.random.default_rng(seed)
    languages, variants = list(WORDS), tts.variants()
    for i in range(count):
        language = languages[i // 2 % len(languages)] if i % 2 else str(rng.choice(["en", "en-us", "en-gb-scotland"]))
        words = [str(w) for w in rng.choice(WORDS[language.split("-")[0]].split(), rng.integers(3, 14))]
        words = [w + rng.choice([",", ".", "?"]) if rng.random() < 0.12 else w for w in words]
        variant = f"+{rng.choice(variants)}" if rng.random() < 0.85 else ""
        spoken = tts.synthesize(
            " ".join(words) + ".",
            language + variant,
            rate_wpm=int(rng.uniform(110, 270)),
            pitch=int(rng.uniform(10, 90)),
            pitch_range=int(rng.uniform(10, 90)),
        )
        samples = resample_poly(spoken.samples, 320, 441).astype(np.float32)
        yield Utterance(samples, occupancy(spoken.phonemes, round(len(samples) / 640)))
