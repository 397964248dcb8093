"""What a person has chosen: refused where no view can show it, and back from the query string as it went in."""

from dataclasses import asdict

import pytest

from app.state import FIELDS, REFERRED, Selection, refer, referred

REFERENCE = Selection(model="other", layer="blocks.0.context.qkv", timestep=40, weight_bits=8, ssc=False, strength=1)

FULL = Selection(
    model="other.model-2",
    channel=77,
    layer="blocks.7.qkv",
    timestep=20,
    weight_bits=3,
    activation_bits=16,
    csb=True,
    ssc=False,
    strength=8,
    reference=refer(REFERENCE),
    class_id=9,
    seed=123,
    steps=50,
    guidance=1.5,
    prompt="a red cube",
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layer", "blocks/1/fc1"),
        ("layer", "blocks..fc3"),
        ("prompt", None),
        ("layer", None),
        ("model", "a/b"),
        ("model", ""),
        ("reference", "demo~blocks.2.fc1"),
        ("reference", 3),
        ("channel", -2),
        ("channel", 1.5),
        ("channel", 99999),
        ("timestep", -1),
        ("timestep", 1000),
        ("timestep", 2.5),
        ("weight_bits", 1),
        ("activation_bits", 9),
        ("strength", 3),
        ("class_id", -1),
        ("seed", -1),
        ("steps", 0),
        ("steps", 251),
        ("guidance", 0.5),
        ("guidance", float("nan")),
        ("seed", None),
    ],
)
def test_out_of_range_is_refused_and_says_what_came(field, value):
    with pytest.raises(ValueError, match=f"^{field}: .*got") as caught:
        Selection(**{field: value})
    assert repr(value) in str(caught.value)


def test_a_prompt_is_one_line_of_bounded_length():
    assert Selection(prompt="  a red\n cube ").prompt == "a red cube"
    with pytest.raises(ValueError, match=r"^prompt: expected a text of at most 200 characters; got 'xxx"):
        Selection(prompt="x" * 201)


def test_a_prompt_holds_nothing_that_a_template_of_the_page_would_run():
    assert Selection(prompt="${alert(1)} for $5 {or} \\u").prompt == "{alert(1)} for $5 {or} u"
    assert Selection.from_query({"prompt": "$\\{x}"})[0].prompt == "$ {x}"


def test_a_reference_and_back():
    assert referred(refer(REFERENCE)) == REFERENCE
    assert referred(refer(FULL)) == Selection(**{name: getattr(FULL, name) for name in REFERRED})
    assert refer(Selection()) == "demo~blocks.2.fc1~500~4~8~1~1~8~0"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("demo~blocks.2.fc1~1000~4~8~1~1~8~0", "reference: timestep: expected a whole number from 0 to 999; got 1000"),
        ("demo~blocks.2.fc1~500~4~8~0~1~8~0", "reference: ssc: needs csb"),
        ("demo~blocks.2.fc1~500~4~8~maybe~1~8~0", "reference: csb: expected 0 or 1; got 'maybe'"),
        ("a/b~blocks.2.fc1~500~4~8~1~1~8~0", "reference: model: expected a name"),
    ],
)
def test_a_reference_that_no_view_can_be_is_refused(reference, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Selection(reference=reference)
    assert Selection.from_query({"reference": reference, "seed": "4"})[0] == Selection(seed=4)


def test_ssc_needs_csb():
    with pytest.raises(ValueError, match="ssc: needs csb"):
        Selection(csb=False, ssc=True)


def test_controls_with_csb_off_count_ssc_as_off():
    values = asdict(Selection()) | {"csb": False, "ssc": True}
    assert Selection.from_controls(*(values[name] for name in FIELDS)) == Selection(csb=False, ssc=False)


@pytest.mark.parametrize("selection", [Selection(), FULL, Selection(csb=False, ssc=False)])
@pytest.mark.parametrize("everything", [False, True])
def test_query_and_back(selection, everything):
    assert Selection.from_query(selection.to_query(everything=everything)) == (selection, [])


def test_the_default_view_needs_no_query():
    assert Selection().to_query() == {}
    assert Selection(seed=4).to_query() == {"seed": "4"}


def test_whole_guidance_is_written_as_a_browser_writes_it():
    assert Selection(guidance=5.0).to_query() == {"guidance": "5"}


def test_a_malformed_link_opens_the_rest_and_says_what_it_ignored():
    selection, ignored = Selection.from_query(
        {"layer": "no where", "seed": "-3", "steps": "many", "csb": "perhaps", "timestep": "40", "other": "x"}
    )
    assert selection == Selection(timestep=40)
    assert [message.split(":")[0] for message in ignored] == ["layer", "csb", "seed", "steps"]


def test_a_link_that_switches_csb_off_switches_ssc_off():
    assert Selection.from_query({"csb": "0"}) == (Selection(csb=False, ssc=False), [])
    assert Selection.from_query({"csb": "0", "ssc": "1"})[0] == Selection(csb=False, ssc=False)
