import pytest

from orderstream.contract.topics import Topics


class TestTopics:
    def test_have_the_names_of_the_contract(self) -> None:
        assert set(Topics().all()) >= {
            "order.created",
            "order.created.retry",
            "order.created.DLT",
            "inventory.reserved",
            "inventory.reserved.DLT",
            "inventory.rejected",
            "inventory.rejected.DLT",
        }

    def test_are_all_different(self) -> None:
        assert len(set(Topics().all())) == len(Topics().all())

    @pytest.mark.parametrize(("suffix", "dead"), [(".DLT", "orders.DLT"), ("-dlt", "orders-dlt")])
    def test_a_dead_letter_topic_is_the_topic_and_the_suffix(self, suffix: str, dead: str) -> None:
        topics = Topics(order_created="orders", dead_letter_suffix=suffix)
        assert topics.order_created_dead == topics.dead_letter("orders") == dead

    def test_the_retry_topic_has_no_dead_letters_of_its_own(self) -> None:
        topics = Topics()
        assert topics.dead_letter(topics.order_created_retry) not in topics.all()
