from collections import Counter

from features.catalogue import BY_NAME, CATALOGUE
from features.topics import TOPICS


def test_every_feature_of_a_topic_exists_and_belongs_to_one() -> None:
    named = Counter(name for names in TOPICS.values() for name in names)
    assert set(named) <= {declared.name for declared in CATALOGUE}
    assert set(named.values()) == {1}


def test_who_may_read_one_feature_of_a_topic_may_read_all() -> None:
    audiences = {topic: {BY_NAME[name].audience for name in names} for topic, names in TOPICS.items()}
    assert all(len(each) == 1 for each in audiences.values()), audiences
