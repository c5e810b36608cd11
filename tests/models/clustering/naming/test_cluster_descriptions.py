"""Descriptions of clusters, on shops and libraries that a person can judge.

One file of over 350 lines: its tests share these collections.
"""

import numpy as np
import pytest
import scipy.sparse
import stopwordsiso
from hypothesis import given, settings
from hypothesis import strategies as st

from models.clustering.naming.cluster_descriptions import (
    class_tf_idf,
    describe_clusters,
    description,
)
from tests.models.clustering.naming.strange_texts import TEXT, is_clean

SHOP = {
    "headphones": (
        ["Electronics", "Audio", "Headphones"],
        "{} wireless headphones with noise cancelling. Bluetooth 5.3, 40 hours of battery, USB-C",
    ),
    "phone cases": (
        ["Electronics", "Phone Accessories"],
        "{} phone case for iPhone, shockproof cover, screen protector included (pack of 2)",
    ),
    "running shoes": (
        ["Sports", "Shoes", "Running"],
        "{} running shoes for men and women, breathable mesh, cushioned sole, size 42",
    ),
    "yoga": (["Sports", "Fitness", "Yoga"], "{} yoga mat, non-slip, with strap, 6 mm thick"),
    "coffee": (
        ["Home & Kitchen", "Coffee"],
        "{} espresso machine with milk frother and burr grinder, 15 bar, 1350 W",
    ),
    "knives": (
        ["Home & Kitchen", "Knives"],
        "{} chef's knife, Damascus steel, dishwasher safe, with knife block",
    ),
    "toys": (["Toys", "Building Sets"], "{} building blocks for kids from 6 years, 500 pieces"),
    "dog": (["Pets", "Dogs"], "{} dog leash, reflective, for large dogs; free delivery in 24h"),
}
FICTION = {
    "vampires": (
        ["romance", "vampire", "slow burn"],
        "The {} Bride. You wake in the castle of a vampire lord, and he wants your heart.",
    ),
    "academy": (
        ["school", "magic academy", "rivals"],
        "{} Academy: your first year at a school of magic. Your roommate hates you. Or does she?",
    ),
    "space": (
        ["sci-fi", "space opera", "crew"],
        "Captain of the {}. Your starship drifts beyond the last station; the crew looks at you.",
    ),
    "detective": (
        ["mystery", "detective", "noir"],
        "The {} Case. A detective, a murder, and nobody in this city tells you the truth.",
    ),
    "zombies": (
        ["horror", "zombies", "survival"],
        "{} Is Dead: the zombies are at the door, and you have one bullet. Survive the night.",
    ),
    "villainess": (
        ["romance", "villainess", "isekai"],
        "Reborn as the villainess of {}! The duke will execute you unless you change the story.",
    ),
}
NAMES = ["Arlo", "Bexley", "Corin", "Dunmore", "Elwick", "Farrow", "Gresham", "Holt", "Ives"]


def first_words(keywords):
    """Stand in for a tokenizer: one token a word."""
    return [keyword.split(" ")[0] for keyword in keywords]


def first_letters(keywords):
    """Stand in for a tokenizer: one token a letter."""
    return [keyword[0] for keyword in keywords]


def named(
    cluster_ids, count, keywords, texts, traffic, keyword_count=4, *, first_tokens=first_words
):
    return describe_clusters(
        cluster_ids, count, keywords, texts, traffic, first_tokens, keyword_count
    )


def item_set(topics):
    """Cluster ids, keywords, texts and traffic of nine items a topic."""
    cluster_ids, keywords, texts = [], [], []
    for cluster, (owned, text) in enumerate(topics.values()):
        for name in NAMES:
            cluster_ids.append(cluster)
            keywords.append(owned)
            texts.append(text.format(name))
    traffic = np.random.default_rng(0).integers(0, 500, len(texts)).astype(float)
    return np.array(cluster_ids), keywords, texts, traffic


def describe(topics):
    cluster_ids, keywords, texts, traffic = item_set(topics)
    found = named(cluster_ids, len(topics), keywords, texts, traffic)
    return dict(zip(topics, found, strict=True))


@pytest.mark.parametrize(
    ("topics", "telling"),
    [
        (
            SHOP,
            {
                "headphones": {"headphones", "audio"},
                "phone cases": {"phone accessories"},
                "running shoes": {"running", "shoes"},
                "yoga": {"yoga", "fitness"},
                "coffee": {"coffee"},
                "knives": {"knives"},
                "toys": {"toys", "building sets"},
                "dog": {"dog", "pets"},
            },
        ),
        (
            FICTION,
            {
                "vampires": {"vampire"},
                "academy": {"magic academy", "rivals"},
                "space": {"sci-fi", "space opera"},
                "detective": {"detective", "mystery"},
                "zombies": {"zombies", "horror"},
                "villainess": {"villainess", "isekai"},
            },
        ),
    ],
)
def test_a_person_recognises_the_topics(topics, telling):
    for topic, keywords in describe(topics).items():
        assert telling[topic] <= set(keywords), (topic, keywords)


def test_text_behind_much_white_space_is_read():
    found = named(np.zeros(3, int), 1, [[]] * 3, [" " * 5_000 + "espresso"] * 3, np.ones(3))
    assert found == [["espresso"]]


def test_texts_alone_name_a_topic():
    cluster_ids, _, texts, traffic = item_set(SHOP)
    found = named(cluster_ids, len(SHOP), [[]] * len(texts), texts, traffic)
    leads = [keywords[0] for keywords in found]
    assert leads[3] == "yoga mat"
    assert leads[4] in {"espresso machine", "burr grinder", "milk frother"}
    assert leads[5] == "chef knife"


def test_no_keyword_is_an_items_own_name():
    names = {name.lower() for name in NAMES}
    for topics in (SHOP, FICTION):
        for keywords in describe(topics).values():
            assert not names & {word for keyword in keywords for word in keyword.split()}


def test_the_same_items_in_the_same_order_get_the_same_descriptions():
    assert describe(SHOP) == describe(SHOP)


def test_clusters_with_the_same_content_still_lead_with_different_keywords():
    count = 30
    keywords = [["Drama", "Comedy"], ["Drama", "Crime"]] * count
    found = named(np.arange(2 * count) // 2, count, keywords, [""] * 2 * count, np.ones(2 * count))
    assert len({keywords[0] for keywords in found}) == count
    assert {"drama", "comedy", "crime", "comedy & drama", "crime & drama", "unnamed a"} <= {
        keywords[0] for keywords in found
    }


def test_pairs_of_keywords_name_what_single_ones_cannot():
    per_cluster = [
        ["Horror"],
        ["Comedy"],
        ["Horror", "Comedy"],
        ["Drama"],
        ["Drama", "Comedy"],
        ["Crime"],
    ]
    ids = np.repeat(np.arange(6), 10)
    found = named(ids, 6, [per_cluster[i] for i in ids], [""] * 60, np.ones(60))
    assert [keywords[0] for keywords in found] == [
        "horror",
        "comedy",
        "horror & comedy",
        "drama",
        "drama & comedy",
        "crime",
    ]


def test_the_lead_is_carried_by_much_of_the_cluster_and_little_of_the_rest():
    rng = np.random.default_rng(0)
    ids = rng.integers(12, size=3_000)
    # Per cluster: its own word on 70% of the items, one that all share, and rare noise.
    vocabulary = [f"{a}{b}a" for a in ("bor", "kel", "mir", "tov") for b in ("lan", "nic", "ros")]
    noise = [f"zu{a}{b}" for a in "bcdfghjklmnp" for b in "aeiouy"]
    texts = [
        f"{vocabulary[c] if rng.random() < 0.7 else ''} gemein {noise[rng.integers(72)]}"
        for c in ids
    ]
    found = named(ids, 12, [[]] * 3_000, texts, np.ones(3_000))
    assert [keywords[0] for keywords in found] == vocabulary
    assert all("gemein" not in keywords[:1] for keywords in found)


def test_a_word_that_is_more_frequent_elsewhere_names_nothing():
    keywords = [["Jazz", "Live"]] * 2 + [["Jazz"]] * 18 + [["Metal", "Live"]] * 20
    found = named(np.repeat([0, 1], 20), 2, keywords, [""] * 40, np.ones(40))
    assert found[0] == ["jazz"]
    assert "live" in found[1]


def test_of_equally_good_leads_the_one_that_begins_like_no_other_wins():
    texts = ["starlight or meadow"] * 5 + ["starship"] * 5
    found = named(
        np.repeat([0, 1], 5), 2, [[]] * 10, texts, np.ones(10), first_tokens=first_letters
    )
    assert found == [["meadow", "starlight"], ["starship"]]


def test_the_cluster_with_the_better_way_out_gives_way_to_a_first_token():
    texts = ["starlight"] * 4 + ["starlight or meadow"]  # one of five: a weak term
    texts += ["starship"] * 3 + ["starship or harbor"] * 2
    found = named(
        np.repeat([0, 1], 5), 2, [[]] * 10, texts, np.ones(10), first_tokens=first_letters
    )
    assert [keywords[0] for keywords in found] == ["starlight", "harbor"]


def test_a_weak_lead_with_its_own_first_token_goes_before_a_good_one_without():
    texts = ["starlight"] * 4 + ["starlight or meadow"] + ["starship"] * 5
    found = named(
        np.repeat([0, 1], 5), 2, [[]] * 10, texts, np.ones(10), first_tokens=first_letters
    )
    assert [keywords[0] for keywords in found] == ["meadow", "starship"]


def test_clusters_that_find_no_first_token_lead_with_their_best_words():
    ids = np.repeat([0, 1, 2], 5)
    owned = [["Drama", "Horror"], ["Drama", "Comedy"], ["Drama", "Crime"]]
    found = named(
        ids,
        3,
        [owned[i] for i in ids],
        [""] * 15,
        np.ones(15),
        first_tokens=lambda keywords: [None] * len(keywords),
    )
    assert [keywords[0] for keywords in found] == ["horror", "comedy", "crime"]


def letters_of_their_own(owned):
    """Oracle: how many clusters can have a first letter of their own, by augmenting paths."""
    holder = {}

    def place(cluster, tried):
        for letter in sorted({word[0] for word in owned[cluster]} - tried):
            tried.add(letter)
            if letter not in holder or place(holder[letter], tried):
                holder[letter] = cluster
                return True
        return False

    return sum(place(cluster, set()) for cluster in range(len(owned)))


WORDS = ["acorn", "amber", "basalt", "birch", "cedar", "cobalt", "dahlia", "denim", "ember", "elk"]


@given(st.lists(st.sets(st.sampled_from(WORDS), min_size=1, max_size=4), min_size=1, max_size=7))
@settings(max_examples=60, deadline=None)
def test_as_many_clusters_as_possible_have_a_first_token_of_their_own(owned):
    count = len(owned)
    found = named(
        np.arange(count),
        count,
        [sorted(words) for words in owned],
        [""] * count,
        np.ones(count),
        first_tokens=first_letters,
    )
    leads = [keywords[0] for keywords in found]
    assert len(set(leads)) == count
    letters = {lead[0] for lead in leads if not lead.startswith("unnamed")}
    assert len(letters) == letters_of_their_own(owned)


def test_clusters_that_have_a_name_keep_it_and_others_begin_differently():
    owned = [["Horror", "Zombies"], ["Horror", "Ghosts"], ["Romance", "Hotel"]]
    ids = np.repeat([0, 1, 2], 5)
    found = describe_clusters(
        ids,
        3,
        [owned[i] for i in ids],
        [""] * 15,
        np.ones(15),
        first_letters,
        kept={2: ["horror", "an old name"]},
    )
    assert found[2] == ["horror", "an old name"]
    assert {found[0][0], found[1][0]} == {"zombies", "ghosts"}


def test_one_users_private_tag_names_nothing():
    keywords = [["Jazz"], ["Jazz"], ["Jazz"], ["Jazz", "seen with anna"]] * 5
    keywords += [["Metal"], ["Metal"], ["Metal", "to buy in may"], ["Metal"]] * 1 + [["Metal"]] * 16
    ids = np.repeat([0, 1], 20)
    found = named(ids, 2, keywords, [""] * 40, np.ones(40))
    assert found[1] == ["metal"]
    assert found[0][0] == "jazz"


def test_a_cluster_of_one_item_is_named_after_it():
    found = named(np.array([0, 1]), 2, [[], ["Chess"]], ["Blue Lagoon (1980)", ""], np.ones(2))
    assert found[0][0] == "blue lagoon"
    assert found[1] == ["chess"]


def test_near_duplicates_are_dropped_within_a_description():
    keywords = [["Robots", "robot", "Sci-Fi", "sci fi", "Robot Wars"]] * 3 + [["Gardens"]] * 3
    found = named(
        np.repeat([0, 1], 3), 2, keywords, ["A robot. Robots!"] * 3 + [""] * 3, np.ones(6)
    )
    stems = [keyword.replace("-", " ").rstrip("s") for keyword in found[0] if "robot" in keyword]
    assert len(stems) == 1
    assert sum(keyword.replace("-", " ") == "sci fi" for keyword in found[0]) == 1


def test_numbers_and_years_are_no_keywords():
    texts = ["Rocky II (1979)", "Rocky III 1982", "Rocky IV, the 1980s"] + ["Alien 3"] * 3
    found = named(np.repeat([0, 1], 3), 2, [["1970s", "80s", "1990-2000"]] * 6, texts, np.ones(6))
    assert found == [["rocky"], ["alien"]]


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("de", ["Der Hund und die Katze sind nicht im Garten", "Die Blume ist nicht für den Hund"]),
        ("fr", ["Le chien et la souris ne sont pas dans le jardin", "Une fleur pour les enfants"]),
        ("es", ["El perro y los gatos no están en el campo", "Una flor para las niñas y el perro"]),
        ("ru", ["Собака и кошка не были в саду", "Это был цветок для собаки"]),
        ("ar", ["كان الكلب في الحديقة مع القطة", "هذه زهرة من أجل الكلب"]),
        ("hi", ["यह कुत्ता और बिल्ली के लिए है", "वह फूल कुत्ते के लिए था"]),
    ],
)
def test_stop_words_of_the_languages_that_occur_are_no_keywords(language, texts):
    stop = stopwordsiso.stopwords(language)
    others = ["The mysterious island of the whales", "A mysterious lighthouse and the whales"]
    all_texts = texts * 4 + others * 4
    found = named(np.repeat([0, 1], 8), 2, [[]] * 16, all_texts, np.ones(16), 10)
    assert not found[0][0].startswith("unnamed")
    assert not stop & {word for keyword in found[0] for word in keyword.split()}
    assert found[1][0] in ("whales", "mysterious", "mysterious island", "mysterious lighthouse")


def test_a_word_that_is_a_stop_word_elsewhere_is_a_keyword():
    texts = ["War Horse, the story of a boy", "The War of the Worlds"] * 4 + ["The sea and me"] * 8
    found = named(np.repeat([0, 1], 8), 2, [["War"]] * 8 + [["Sea"]] * 8, texts, np.ones(16))
    assert found[0][0] == "war"


@pytest.mark.parametrize(
    ("texts", "leads"),
    [
        (
            ["无线蓝牙耳机，降噪", "高清蓝牙耳机 运动", "意式咖啡机，家用", "全自动咖啡机 研磨"],
            ["蓝牙耳机", "咖啡机"],
        ),
        (
            ["東京のラーメン屋", "大阪のラーメン", "京都の寺院巡り", "奈良の寺院"],
            ["ラーメン", "寺院"],
        ),
        (["رواية حب قديمة", "قصة حب", "رحلة إلى الفضاء", "سفينة الفضاء"], ["حب", "الفضاء"]),
        (["विश्व क्रिकेट", "क्रिकेट का खेल", "हिन्दी कविता", "नई कविता"], ["क्रिकेट", "कविता"]),
        (["Зимняя сказка", "Сказка о рыбаке", "Тихий океан", "Океан"], ["сказка", "океан"]),
    ],
)
def test_other_scripts_name_topics_too(texts, leads):
    found = named(np.array([0, 0, 1, 1]), 2, [[]] * 4, texts, np.ones(4))
    assert [keywords[0] for keywords in found] == leads


def test_clusters_without_any_term_get_distinct_labels_without_numbers():
    texts = ["", "the 1999", "1984", "🎸", "Unnamed A"]
    found = named(np.arange(5), 6, [[]] * 5, texts, np.ones(5))
    assert found[4] == ["unnamed"]
    assert [keywords[0] for keywords in found[:4]] == [f"unnamed {letter}" for letter in "abcd"]
    assert found[5] == ["unnamed e"]


def test_class_tf_idf_equals_its_formula_term_by_term():
    frequencies = np.array([[3.0, 0.0, 1.0], [1.0, 2.0, 1.0]])
    expected = np.zeros_like(frequencies)
    words_per_class = frequencies.sum() / 2
    for c in range(2):
        for t in range(3):
            total = frequencies[0, t] + frequencies[1, t]
            expected[c, t] = frequencies[c, t] * np.log(1 + words_per_class / total)
    found = class_tf_idf(scipy.sparse.csr_array(frequencies)).toarray()
    np.testing.assert_allclose(found, expected)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.lists(TEXT, max_size=3), TEXT, st.floats(0, 1e6)),
        max_size=25,
    ),
    st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_descriptions_are_unique_and_clean_whatever_the_texts(items, keyword_count):
    ids, keywords, texts, traffic = zip(*items, strict=True) if items else ((), (), (), ())
    found = named(
        np.array(ids, np.int32),
        6,
        keywords,
        texts,
        np.array(traffic),
        keyword_count,
        first_tokens=first_letters,
    )
    english = stopwordsiso.stopwords("en")
    assert len({description(keywords) for keywords in found}) == len(found) == 6
    assert len({keywords[0] for keywords in found}) == 6
    for mine in found:
        assert 1 <= len(mine) <= keyword_count
        assert len(set(mine)) == len(mine)
        assert all(is_clean(keyword) and keyword not in english for keyword in mine)
        assert not any(keyword.isdigit() for keyword in mine)
        assert description(mine).split(", ") == mine


def test_two_thousand_clusters_and_very_long_texts_are_quick_enough():
    rng = np.random.default_rng(0)
    vocabulary = np.array([a + b + c for a in "bdfgklm" for b in "aeiou" for c in ("lor", "nis")])
    texts = [" ".join(rng.choice(vocabulary, 8)) for _ in range(4_000)]
    texts[0] = "whale " * 20_000
    found = named(np.arange(4_000) % 2_000, 2_000, [[]] * 4_000, texts, np.ones(4_000))
    assert len({keywords[0] for keywords in found}) == 2_000
    assert found[0][0] == "whale"
