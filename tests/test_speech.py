"""Speech: every kind of file, array and text onto one grid, and what is refused."""

import os
import tracemalloc
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magictalk.errors import SpeechError
from magictalk.speech import RATE, Speech
from magictalk.video import VideoWriter, read_frames


def tone(seconds, rate, hertz=300.0, level=0.5):
    """A tone that is on in the second half of each second: its edges tell where a sample is."""
    t = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * t) * (t % 1 >= 0.5)).astype(np.float32)


def record(path, samples, rate, codec, layout="mono", options=None, video=False):
    """Encode ``[n, channels]`` with PyAV."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if video:
            picture = container.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        context = stream.codec_context
        convert = av.AudioResampler(context.format.name, layout, rate, frame_size=context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for part in convert.resample(frame) + convert.resample(None):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
        if video:
            for i in range(round(len(samples) / rate * 25)):
                image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), i % 200, np.uint8), format="rgb24")
                image.pts = i
                container.mux(picture.encode(image))
            container.mux(picture.encode(None))
    return path


def loudness(samples):
    """Root mean square in each tenth of a second."""
    n = len(samples) // 1600 * 1600
    return np.sqrt((samples[:n].reshape(-1, 1600) ** 2).mean(1))


def lag(a, b):
    """Samples by which ``b`` comes after ``a``."""
    n = min(len(a), len(b))
    spectrum = np.conj(np.fft.rfft(a[:n], 2 * n)) * np.fft.rfft(b[:n], 2 * n)
    peak = int(np.argmax(np.fft.irfft(spectrum)))
    return peak if peak < n else peak - 2 * n


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout"),
    [
        ("a.wav", "pcm_s16le", 44100, "stereo"),
        ("f.wav", "pcm_f32le", 48000, "mono"),
        ("phone.wav", "pcm_s16le", 8000, "mono"),
        ("studio.wav", "pcm_s24le", 192000, "stereo"),
        ("a.mp3", "libmp3lame", 44100, "stereo"),
        ("a.m4a", "aac", 44100, "stereo"),
        ("a.aac", "aac", 32000, "mono"),
        ("a.flac", "flac", 22050, "mono"),
        ("a.opus", "libopus", 48000, "stereo"),
        ("a.mka", "aac", 44100, "stereo"),
        ("seven.wav", "pcm_s16le", 48000, "7.1"),
        ("five.m4a", "aac", 48000, "5.1"),
        ("odd.wav", "pcm_s16le", 16000, "3 channels"),
        ("it's 100% «ü» 12:30.wav", "pcm_s16le", 16000, "mono"),
    ],
)
def test_any_file_comes_out_at_16_khz_in_time(tmp_path, name, codec, rate, layout):
    channels = av.AudioLayout(layout).nb_channels
    voice = tone(3, rate)
    speech = Speech.open(record(tmp_path / name, np.repeat(voice[:, None], channels, 1), rate, codec, layout))
    heard = speech.samples()
    assert heard.dtype == np.float32
    assert len(heard) == pytest.approx(3 * RATE, abs=1100)
    assert Speech.frame_count(len(heard)) in (75, 76)
    assert speech.duration == pytest.approx(3, abs=0.1) or name.endswith(".aac")
    assert speech.source == tmp_path / name
    wanted = tone(3, RATE)
    assert abs(lag(wanted, heard)) <= (0 if codec.startswith(("pcm", "flac")) else 1024 if name == "a.aac" else 40)
    quiet = [0, 1, 2, 3, 10, 11, 12, 13] if name != "a.aac" else [0, 1, 2, 3]
    assert loudness(heard)[quiet].max() < 0.02
    assert speech.sound.rate == rate
    assert sum(len(b) for b in speech.sound.blocks()) == pytest.approx(3 * rate, abs=2200)
    assert next(speech.sound.blocks()).shape[1] == channels


def test_loud_channels_do_not_clip_when_mixed(tmp_path):
    full = np.repeat(tone(1, 48000, level=0.99)[:, None], 8, 1)
    heard = Speech.open(record(tmp_path / "loud.wav", full, 48000, "pcm_s16le", "7.1")).samples()
    reference = tone(1, RATE, level=0.99)
    assert np.abs(heard[8500:-500] - reference[8500:-500]).max() < 0.02
    assert Speech.from_array(np.full((1000, 2), 7.0), RATE).samples().max() == 1  # a clipped array stays in range


def test_the_centre_carries_the_voice_and_the_subwoofer_nothing(tmp_path):
    def mixed(channel):
        one = np.zeros((24000, 6), np.float32)
        one[:, channel] = 0.8
        return float(Speech.open(record(tmp_path / "c.wav", one, 48000, "pcm_s16le", "5.1")).samples()[4000])

    assert mixed(2) > mixed(0) > mixed(4) > 0.05
    assert abs(mixed(3)) < 1e-3


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1600, 40000),
    rate=st.sampled_from([8000, 16000, 22050, 44100, 48000]),
    seconds=st.floats(0.01, 3),
)
def test_chunks_are_all_alike_and_join_to_the_whole(n, rate, seconds):
    samples = np.random.default_rng(n).uniform(-0.5, 0.5, n)
    speech = Speech.from_array(samples, rate)
    chunks = list(speech.chunks(seconds))
    size = round(seconds * RATE)
    assert {len(c) for c in chunks[:-1]} <= {size}
    assert 0 < len(chunks[-1]) <= size
    assert np.array_equal(np.concatenate(chunks), speech.samples())
    assert np.array_equal(speech.samples(), speech.samples())  # each call starts again
    assert len(speech.samples()) == pytest.approx(n / rate * RATE, abs=2)
    assert speech.duration == n / rate
    assert Speech.frame_count(len(speech.samples())) == pytest.approx(n / rate * 25, abs=0.51)


def test_arrays_of_any_type():
    wave16 = (np.sin(np.arange(16000) / 10) * 20000).astype(np.int16)
    wanted = wave16 / 32768
    assert np.allclose(Speech.from_array(wave16, RATE).samples(), wanted, atol=1e-6)
    assert np.allclose(Speech.from_array(np.stack([wave16, wave16], 1), RATE).samples(), wanted, atol=1e-6)
    eight = ((wave16 >> 8).astype(np.int16) + 128).astype(np.uint8)
    assert np.allclose(Speech.from_array(eight, RATE).samples(), wanted, atol=0.01)
    assert np.allclose(Speech.from_array(list(wanted), RATE).samples(), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        ([], 16000, "last 0.000 s"),
        (np.zeros(100), 16000, "half a frame"),
        (np.zeros((2, 2, 2)), 16000, r"shape \(2, 2, 2\)"),
        (np.zeros(16000), 0, "rate is 0"),
        (np.zeros(16000, complex), 16000, "type complex128"),
        (np.r_[np.zeros(8000), np.nan, np.zeros(8000)], 16000, "not a number at 0.50 s"),
        (np.r_[np.zeros(8000), np.inf, np.zeros(8000)], 16000, "not a number at 0.50 s"),
    ],
)
def test_arrays_that_are_refused(samples, rate, message):
    with pytest.raises(SpeechError, match=message):
        Speech.from_array(samples, rate)


@pytest.mark.parametrize("name", ["a.wav", "a.m4a", "a.mp3", "a.flac"])
def test_start_and_duration_cut_to_the_sample(tmp_path, name):
    codec = {"wav": "pcm_s16le", "m4a": "aac", "mp3": "libmp3lame", "flac": "flac"}[name[2:]]
    path = record(tmp_path / name, tone(12, 44100)[:, None], 44100, codec)
    whole, cut = Speech.open(path), Speech.open(path, start=7.25, duration=2.5)
    native = np.concatenate(list(whole.sound.blocks()))[round(7.25 * 44100) :][: round(2.5 * 44100)]
    assert np.abs(np.concatenate(list(cut.sound.blocks())) - native).max() < 1e-3
    assert len(cut.samples()) == 2.5 * RATE
    assert (cut.start, cut.duration) == (7.25, 2.5)
    assert whole.sound.copy_from == path
    assert cut.sound.copy_from is None
    with pytest.raises(SpeechError, match=r"start is 12.5 s, but .* lasts 12|0.000 s of sound after its first 12.5"):
        Speech.open(path, start=12.5)
    with pytest.raises(SpeechError, match="start is -1"):
        Speech.open(path, start=-1)
    with pytest.raises(SpeechError, match="duration is 0 s"):
        Speech.open(path, duration=0)


def test_sound_of_a_video(tmp_path):
    path = record(tmp_path / "v.mp4", tone(2, 48000)[:, None], 48000, "aac", video=True)
    assert abs(lag(tone(2, RATE), Speech.open(path).samples())) < 40


def test_what_is_not_speech_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "notes.mp3").write_text("these are words, not sound\n" * 50)
    (tmp_path / "noise.wav").write_bytes(np.random.default_rng(0).bytes(5000))
    silent = tmp_path / "silent.mp4"
    with av.open(str(silent), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    with wave.open(str(tmp_path / "none.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    for name, message in [
        ("nowhere.wav", "no file at"),
        ("", "is a folder"),
        ("empty.wav", "is empty"),
        ("notes.mp3", "cannot be opened|no readable sound|0.000 s|cut off or damaged"),
        ("noise.wav", "cannot be opened|no readable sound|0.000 s"),
        ("silent.mp4", "is a video or picture without sound"),
        ("none.wav", "0.000 s of sound|no readable sound|cannot be opened"),
    ]:
        with pytest.raises(SpeechError, match=message) as caught:
            Speech.open(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_silence_is_speech_too(tmp_path):
    path = record(tmp_path / "s.wav", np.zeros((16000, 1), np.float32), 16000, "pcm_s16le")
    assert not Speech.open(path).samples().any()


def test_nan_in_a_file_names_the_second(tmp_path):
    samples = tone(3, 16000)
    samples[40000] = np.nan
    path = record(tmp_path / "nan.wav", samples[:, None], 16000, "pcm_f32le")
    with pytest.raises(SpeechError, match=r"not a number at 2.50 s"):
        Speech.open(path).samples()
    assert len(Speech.open(path, duration=2).samples()) == 32000


@pytest.mark.parametrize("name", ["a.wav", "fast.m4a", "a.flac", "a.mka"])
def test_a_file_cut_off_says_where_and_how_to_go_on(tmp_path, name):
    codec = {"wav": "pcm_s16le", "m4a": "aac", "flac": "flac", "mka": "aac"}[name.split(".")[1]]
    options = {"movflags": "faststart"} if name == "fast.m4a" else {}
    noise = np.random.default_rng(1).normal(0, 0.1, (10 * 44100, 1)).astype(np.float32)
    path = record(tmp_path / name, noise, 44100, codec, options=options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        SpeechError, match=r"cut off or damaged at [45]\.\d+ s of 10.*use --duration [45]\.\d"
    ) as caught:
        Speech.open(path)
    duration = float(str(caught.value).split("--duration ")[1].split()[0])
    assert len(Speech.open(path, duration=duration).samples()) == round(duration * RATE)


def test_a_file_cut_off_in_its_header_is_refused(tmp_path):
    path = record(tmp_path / "a.m4a", tone(5, 44100)[:, None], 44100, "aac")
    path.write_bytes(path.read_bytes()[:-3000])  # the index is at the end
    with pytest.raises(SpeechError, match="cut off, damaged, or not media"):
        Speech.open(path)


def test_damage_midway_says_where(tmp_path):
    noise = np.random.default_rng(1).normal(0, 0.1, (10 * 44100, 1)).astype(np.float32)
    path = record(tmp_path / "a.m4a", noise, 44100, "aac", options={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 5000] = b"\xff" * 5000
    path.write_bytes(content)
    with pytest.raises(SpeechError, match=r"damaged at [45]\.\d+ s of 10.00 s; use --duration [45]"):
        Speech.open(path).samples()


def test_text_is_speech_with_phonemes():
    speech = Speech.say("Hello paper.", "en")
    heard = speech.samples()
    assert speech.phonemes is not None
    assert any(p.symbol == "p" for p in speech.phonemes)
    assert speech.duration == pytest.approx(len(heard) / RATE, abs=1e-3)
    assert speech.sound.rate == 22050
    assert Speech.from_array(heard, RATE).phonemes is None
    assert np.array_equal(heard, speech.samples())
    with pytest.raises(SpeechError, match="no voice named 'xq'"):
        Speech.say("hello", "xq")
    with pytest.raises(SpeechError, match="text is empty"):
        Speech.say(" ")


def test_a_long_file_takes_the_memory_of_seconds(tmp_path):
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        minute = (tone(60, 16000) * 32767).astype("<i2").tobytes()
        for _ in range(20):
            file.writeframes(minute)
    speech = Speech.open(path)
    tracemalloc.start()
    total = sum(len(c) for c in speech.chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 1200 * RATE
    assert peak < 4e6
    late = Speech.open(path, start=1100.25, duration=1).samples()
    assert np.allclose(loudness(late)[:2], 0, atol=1e-3)
    assert loudness(late)[3:7].min() > 0.3


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = record(tmp_path / "a.wav", tone(1, 16000)[:, None], 16000, "pcm_s16le")
    path.chmod(0)
    with pytest.raises(SpeechError, match="may not be read"):
        Speech.open(path)


@pytest.mark.parametrize("name", ["a.m4a", "a.mp3", "a.wav", "said"])
def test_a_video_of_speech_lasts_as_long_and_sounds_the_same(tmp_path, name):
    if name == "said":
        speech = Speech.say("Every word is heard.")
    else:
        codec = {"m4a": "aac", "mp3": "libmp3lame", "wav": "pcm_s16le"}[name[2:]]
        speech = Speech.open(
            record(tmp_path / name, np.repeat(tone(2.31, 44100)[:, None], 2, 1), 44100, codec, "stereo")
        )
    spoken = speech.samples()
    count = Speech.frame_count(len(spoken))
    with VideoWriter(tmp_path / "out.mp4", sound=speech.sound, segment_seconds=0.5) as writer:
        for k in range(count):
            writer.write(np.full((32, 32, 3), k, np.uint8))
    heard = Speech.open(tmp_path / "out.mp4").samples()
    assert sum(1 for _ in read_frames(tmp_path / "out.mp4")) == count
    assert abs(len(heard) - len(spoken)) <= 2 * 1024 * RATE / speech.sound.rate
    assert abs(lag(spoken, heard)) <= 16
    assert np.corrcoef(spoken, np.resize(heard, len(spoken)))[0, 1] > 0.97
