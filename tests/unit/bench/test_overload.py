"""How what the clients saw in an overload becomes figures."""

from scheduler.bench.overload import Overload, figures
from scheduler.bench.targets import Seen


def found(**more: int) -> Overload:
    seen = Seen(latencies={201: [400_000] * 10, 503: [10_000] * 90}, seconds=2.0, **more)
    return Overload(1_000.0, [seen, Seen(latencies={503: [10_000] * 100}, seconds=2.0)], [50.0, 60.0, 80.0, 82.0])


def test_all_is_well_where_each_answer_is_a_placement_or_a_refusal_with_its_time() -> None:
    answers, p99, memory = figures(found())
    assert (answers.value, answers.reached) == (1, True)
    assert answers.detail["201"] == 10
    assert answers.detail["503"] == 190
    assert answers.detail["placed/s"] == 5
    assert (p99.value, p99.reached) == (400, True)
    assert (memory.value, memory.reached) == (82 / 80, True)


def test_what_is_broken_unanswered_or_without_a_time_counts_against_it() -> None:
    for kind in ("broken", "unanswered"):
        (answers, *_) = figures(found(**{kind: 50}))
        assert (answers.value, answers.reached, answers.detail["others and failures"]) == (0.8, False, 50)
    (answers, *_) = figures(found(without_retry_after=50))
    assert (answers.value, answers.detail["others and failures"]) == (0.75, 50)


def test_what_the_client_could_not_send_is_told_but_is_no_fault() -> None:
    (answers, *_) = figures(found(unsent=7))
    assert (answers.value, answers.detail["unsent"]) == (1, 7)
