"""Spellings of one class are one class, or refused; S3PRL's emotions have S3PRL's names."""

from collections import Counter
from pathlib import Path

import pytest

from s3prl_dd.corpora.labels import classes_of
from s3prl_dd.errors import UserError

SOURCE = Path("t.csv")


def classes(*emotions, **options):
    return classes_of(SOURCE, Counter(emotions), **options)


def test_spellings_that_differ_in_case_spaces_hyphens_and_underscores_are_merged_and_told():
    found = classes("Pleasant_surprise", "pleasant surprise", "pleasant-surprise", "pleasant surprise", "bored")
    assert found.labels == {"bored": 0, "pleasant surprise": 1}
    assert set(found.class_of.values()) == {"bored", "pleasant surprise"}
    merged = "Pleasant_surprise and pleasant surprise and pleasant-surprise are one class, pleasant surprise"
    assert merged in found.notes


def test_a_word_is_one_class_in_each_form_of_unicode():
    assert classes("fröhlich", "fro\u0308hlich", "ｆröhlich", "frö\u00adhlich", "ruhig").labels == {
        "fröhlich": 0, "ruhig": 1}
    found = classes("fro\u0308hlich", "ruhig", renamed="fröhlich=hap,ruhig=neu")
    assert found.class_of == {"fro\u0308hlich": "hap", "ruhig": "neu"}
    with pytest.raises(UserError, match="could be one class"):
        classes("fröhlich", "fro\u0308hlich", order={"fröhlich": 0, "fro\u0308hlich": 1})


def test_our_four_take_s3prls_names_and_the_others_keep_theirs():
    found = classes("Anger", "Happy", "happiness", "SAD", "neutral", "calm", "Calm")
    assert found.labels == {"neu": 0, "hap": 1, "ang": 2, "sad": 3, "Calm": 4}
    assert found.class_of["Anger"] == "ang" and found.class_of["Happy"] == found.class_of["happiness"] == "hap"
    assert any("Anger is ang" in note and note.endswith("the others keep theirs: Calm") for note in found.notes)


@pytest.mark.parametrize("one, other", [
    ("Pleasant_surprise", "pleasant_surprised"), ("fear", "fearful"), ("sad", "sad and tired"), ("Calm", "calmness")])
def test_a_label_that_begins_another_is_refused_with_both_named(one, other):
    with pytest.raises(UserError, match=f"'{one}' and '{other}' could be one class") as caught:
        classes("bored", other, one)
    assert "--emotions" in str(caught.value)


def test_numbers_do_not_begin_each_other():
    assert classes("1", "10", "11", "class1", "class10").labels == {
        "1": 0, "10": 1, "11": 2, "class1": 3, "class10": 4}


def test_emotions_option_counts_spellings_as_one():
    found = classes("Pleasant_surprise", "pleasant_surprised", "Sad", "sad",
                    renamed="sad=sad,pleasant surprise=ps,pleasant surprised=ps")
    assert found.labels == {"sad": 0, "ps": 1} and found.class_of["Sad"] == "sad"
    found = classes("a,b", "c", renamed='"a,b=x",c=y')
    assert found.class_of == {"a,b": "x", "c": "y"}
    with pytest.raises(UserError, match="'Sad' and 'sad' could be one class"):
        classes("a", "b", renamed="a=Sad,b=sad")


def test_a_tables_own_order_is_kept_and_its_spellings_are_checked():
    assert classes("b", "a", order={"b": 0, "a": 1}).labels == {"b": 0, "a": 1}
    with pytest.raises(UserError, match="'Sad' and 'sad'"):
        classes("Sad", "sad", order={"Sad": 0, "sad": 1})


def test_any_number_of_classes_with_names_of_any_length():
    names = [f"{chr(97 + place // 26)}{chr(97 + place % 26)} " + "x" * 300 for place in range(100)]
    assert list(classes(*names).labels) == sorted(names)
