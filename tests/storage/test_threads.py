"""Work on ahead: in order, no further ahead than asked, and over when whoever takes the results stops."""

import threading

import pytest

from heldout_torch.storage.threads import Background, map_ahead, processors


def test_results_come_in_order_though_the_first_takes_longest():
    waits = threading.Event()

    def work(item):
        if item == 0:
            assert waits.wait(10)
        elif item == 2:
            waits.set()
        return item * item

    assert list(map_ahead(work, range(6), threads=3)) == [0, 1, 4, 9, 16, 25]


def test_no_more_is_begun_than_is_asked_for():
    begun = []
    results = map_ahead(begun.append, iter(range(100)), threads=2, ahead=3)
    for _ in range(5):
        next(results)
    results.close()
    assert 5 <= len(begun) <= 9


def test_an_error_comes_where_its_item_stands():
    results = map_ahead(lambda item: 1 // item, [2, 1, 0, 1], threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_calls_beside_are_made_in_order_and_no_more_wait_than_may():
    goes_on, done, background = threading.Event(), [], Background(2)
    background.call(goes_on.wait, 10)
    background.call(done.append, "second")
    assert background.busy()
    asking = threading.Thread(target=background.call, args=(done.append, "third"))
    asking.start()
    asking.join(0.1)
    assert asking.is_alive()
    goes_on.set()
    asking.join(10)
    background.wait()
    assert done == ["second", "third"]
    assert not background.busy()
    background.close()


def test_an_error_of_a_call_beside_comes_at_the_next_one():
    background = Background()
    background.call(int, "three")
    with pytest.raises(ValueError, match="three"):
        background.call(int, "4")
    background.close()


def test_there_is_a_processor():
    assert processors() >= 1
