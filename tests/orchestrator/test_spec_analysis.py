import pytest

from orchestrator import spec
from orchestrator.errors import SpecError
from orchestrator.spec_analysis import Analysis
from tests.orchestrator import finished
from tests.orchestrator.specs import problems, read, small, write

WHOLE = {"arm": "score", "against": "erm", "metric": "auroc", "where": {"losses.score.weight": 1}}


def found(folder, **changed):
    return problems(folder, small(analysis={**WHOLE, **changed}))


def test_a_sound_analysis_is_read_and_stored(tmp_path):
    path = write(tmp_path, small(analysis=WHOLE))
    document = spec.read(path).document()
    assert document["analysis"] == WHOLE
    assert spec.analysis(path) == Analysis(**WHOLE)
    assert spec.analysis(write(tmp_path, small(), name="other.yaml")) is None


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"arm": "scor"}, "analysis.arm: found 'scor'; expected an arm; did you mean score?"),
        ({"against": "score"}, "analysis.against: found 'score', the arm that is judged"),
        ({"metric": "aurok"}, "analysis.metric: found 'aurok'; expected one of accuracy"),
        ({"metric": "concordance"}, "expected a metric of a class task"),
        ({"margin": -1}, "analysis.margin: found -1; expected at least 0"),
        ({"margin_metric": "brier"}, "analysis.margin_metric: is without effect"),
        ({"family": ["unj"]}, "analysis.family[0]: found 'unj'; expected an encoder of the spec"),
        ({"where": {}}, "found 2 settings of 'score' for uni; expected `where` that leaves one"),
        ({"where": {"losses.score.weight": 7}}, "found no cell with these settings (where)"),
        ({"where": {"losses.scor.weight": 1}}, "did you mean losses.score.weight?"),
        ({"marg": 1}, "analysis.marg: unknown key; did you mean margin?"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, changed, expected):
    lines = found(tmp_path, **changed)
    assert lines and all(
        line.startswith("small.yaml:2") or "small.yaml:3" in line for line in lines
    )
    assert any(expected in line for line in lines), lines


def test_a_rule_of_selection_settles_open_settings(tmp_path):
    given = {key: value for key, value in WHOLE.items() if key != "where"}
    assert problems(tmp_path, small(analysis=given, select={"rule": "accuracy"})) == []


def test_survival_tasks_have_metrics_of_their_own(tmp_path):
    stopping = {"metric": "concordance"}
    given = small(
        analysis={**WHOLE, "metric": "auroc"}, task={"kind": "survival"}, stopping=stopping
    )
    (line,) = problems(tmp_path, given)
    assert "expected a metric of a survival task" in line
    given["analysis"]["metric"] = "concordance"
    assert read(tmp_path, given).analysis.metric == "concordance"


def test_an_analysis_changes_no_trial(tmp_path):
    one = finished.prepare(finished.write_spec(tmp_path), tmp_path / "a", write=False)
    text = finished.SPEC + "analysis: {arm: again, against: erm, metric: auroc}\n"
    two = finished.prepare(finished.write_spec(tmp_path, text=text), tmp_path / "a", write=False)
    assert one.plan.trial_ids == two.plan.trial_ids


def test_a_stored_analysis_that_was_spoilt_is_named(tmp_path):
    path = write(tmp_path, "name: small\nanalysis: {arm: a}\n")
    with pytest.raises(SpecError, match=r"analysis: Field required"):
        spec.analysis(path)
