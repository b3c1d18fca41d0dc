"""What the property tests of the kernels draw: payloads, frames of all kinds, windows of them."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from frames import header, raw_frame
from kernels import BINARY, KEY, TEXT

# The same examples in every run: a failure is a change of the code.
quick = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

sizes = st.one_of(st.integers(0, 40), st.integers(100, 300), st.sampled_from([2048, 4099, 65537]))
payloads = st.one_of(
    st.binary(max_size=200), st.builds(lambda n, seed: (seed * n)[:n], sizes, st.binary(min_size=1))
)
lengths = st.one_of(st.integers(0, 300), st.sampled_from([65535, 65536, 2**62, 2**63, 2**64 - 1]))
firsts = st.one_of(st.sampled_from([TEXT, BINARY]), st.integers(0, 255))
four = st.one_of(st.none(), st.binary(min_size=4, max_size=4))
texts = st.one_of(st.text(max_size=80), st.text("ab", max_size=300)).map(str.encode)
# UTF-8, cut at any place, and changed or not.
cut_texts = st.builds(
    lambda text, start, stop, at, more: (
        (data := text.encode()[start : stop or None])[:at] + more + data[at:]
    ),
    st.text(max_size=60),
    st.integers(0, 3),
    st.integers(-3, 0),
    st.integers(0, 60),
    st.one_of(st.just(b""), st.binary(max_size=2)),
)
good_frames = st.one_of(
    st.builds(raw_frame, st.just(TEXT), texts, st.just(KEY)),
    st.builds(raw_frame, st.just(BINARY), payloads, st.just(KEY)),
)
odd_frames = st.one_of(
    st.builds(raw_frame, firsts, payloads, four),
    st.builds(raw_frame, st.just(TEXT), st.binary(max_size=20), st.just(KEY)),
    st.builds(header, firsts, lengths.map(lambda n: n % 126), four, st.sampled_from([7, 16, 64])),
    st.builds(header, firsts, lengths, four, st.just(64)),
    st.binary(max_size=20),
)


windows = st.builds(
    lambda good, odd, more: b"".join([*good, *odd, *more]),
    st.lists(good_frames, max_size=5),
    st.lists(odd_frames, max_size=3),
    st.lists(good_frames, max_size=2),
)
