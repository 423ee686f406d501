from engine.jobs import RateMeter


def test_nothing_is_said_before_there_are_two_looks() -> None:
    assert RateMeter().bytes_per_s is None
    assert RateMeter().seen(1.0, 500).bytes_per_s is None
    assert RateMeter().seen(1.0, 500).seconds_left(1000) is None


def test_the_rate_is_the_mean_of_the_last_ten_seconds() -> None:
    meter = RateMeter()
    for second in range(60):
        meter = meter.seen(float(second), second * 100 if second < 50 else 5000 + (second - 50) * 300)

    assert meter.bytes_per_s is not None
    assert 250 < meter.bytes_per_s <= 300
    assert len(meter.samples) <= 12


def test_the_time_left_follows_from_the_rate() -> None:
    meter = RateMeter().seen(0.0, 0).seen(2.0, 200)

    assert meter.seconds_left(1200) == 10.0
    assert meter.seconds_left(200) == 0.0


def test_a_rate_of_zero_promises_no_end() -> None:
    assert RateMeter().seen(0.0, 100).seen(5.0, 100).seconds_left(200) is None


def test_quiet_time_counts_from_the_last_byte() -> None:
    meter = RateMeter().seen(0.0, 0).seen(3.0, 10).seen(20.0, 10)

    assert meter.quiet_s(23.0) == 20.0


def test_fewer_bytes_than_before_are_a_new_start() -> None:
    meter = RateMeter().seen(0.0, 900).seen(1.0, 1000).seen(2.0, 0).seen(3.0, 50)

    assert meter.bytes_per_s == 50.0


def test_looks_far_apart_still_give_a_rate() -> None:
    assert RateMeter().seen(0.0, 0).seen(100.0, 1000).bytes_per_s == 10.0
