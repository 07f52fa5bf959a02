"""What costs much is worked out once, and only the last answers stay."""

from concurrent.futures import ThreadPoolExecutor

from crm.kept import Kept


def test_answers_are_worked_out_once_and_only_the_last_stay():
    kept, made = Kept(8), []
    for asked in [*range(9), 8, 0]:
        kept.of(asked, lambda asked=asked: made.append(asked) or asked)
    assert made == [*range(9), 0]


def test_many_who_ask_the_same_at_once_have_it_worked_out_once():
    kept, made = Kept(1), []
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: kept.of("asked", lambda: made.append(1) or len(made)), range(100)))
    assert made == [1] and answers == [1] * 100


def test_what_fails_is_asked_again():
    kept = Kept(1)
    for answer in (None, 2):
        try:
            assert kept.of("asked", lambda answer=answer: answer / 2) == 1
        except TypeError:
            assert answer is None
