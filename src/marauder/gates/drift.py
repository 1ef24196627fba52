"""Gate: a run's data is like the data that the production model was trained on, or the difference is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from marauder.core.plugins import make
from marauder.data.profile import Profile
from marauder.gates.base import Gate, GateSettings
from marauder.gates.drift_embeddings import EmbeddingDrift, comparable, embedding_drift
from marauder.gates.drift_engine_base import DriftEngine, FeatureDrift
from marauder.gates.verdict import SEVERITY, Answer, Verdict

SHOWN = 4
REPORT = "drift.html"


class DriftSettings(GateSettings):
    """What counts as drift, and how much of it the gate takes."""

    engine: Literal["evidently", "scipy"] = Field("evidently", description="what measures the distances")
    numeric_limit: float = Field(
        0.1,
        gt=0,
        description="least Wasserstein distance of a numeric feature, in standard deviations of the reference",
    )
    # The largest Jensen-Shannon distance is sqrt(ln 2) = 0.833: a limit above it would never be reached.
    categorical_limit: float = Field(0.1, gt=0, lt=0.84, description="least Jensen-Shannon distance of shares")
    false_alarm_rate: float = Field(
        0.05, gt=0, lt=0.5, description="how often unchanged data may show drift, over all features and embeddings"
    )
    share_warns: float = Field(0.05, gt=0, le=1, description="share of drifted features from which the gate warns")
    share_fails: float = Field(0.5, gt=0, le=1, description="share of drifted features from which the gate fails")
    embedding_warns: float = Field(
        0.7, ge=0.5, le=1, description="area under the ROC curve of telling the embeddings apart, from which it warns"
    )
    embedding_fails: float = Field(0.9, ge=0.5, le=1, description="the same, from which it fails")
    least_pictures: int = Field(30, ge=2, description="sampled pictures a side below which nothing can be said")
    least_groups: int = Field(8, ge=2, description="groups (clips) a side below which nothing can be said")
    sample: int = Field(2000, ge=30, description="pictures of a profile")
    permutations: int = Field(
        500, ge=100, le=100_000, description="random divisions of the groups that show the effect of chance"
    )
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> DriftSettings:
        for least, most in (("share_warns", "share_fails"), ("embedding_warns", "embedding_fails")):
            if getattr(self, least) > getattr(self, most):
                raise ValueError(f"{least} {getattr(self, least):g} is above {most} {getattr(self, most):g}")
        return self


@dataclass(frozen=True)
class DriftEvidence:
    """How the data of a run compares with the reference. ``reference_pictures`` is ``None`` without a reference,
    and ``why_no_reference`` then says why one that should be there is not; empty: there is none yet.

    ``features``: empty where a side is too small to compare. ``embeddings``: ``None`` where they could not be compared,
    with ``embeddings_why_not``. ``report``: file name of the engine's own page, if it left one.
    """

    reference_pictures: int | None
    pictures: int
    reference_groups: int = 0
    groups: int = 0
    engine: str = ""
    features: tuple[FeatureDrift, ...] = ()
    embeddings: EmbeddingDrift | None = None
    embeddings_why_not: str = ""
    report: str | None = None
    why_no_reference: str = ""

    @property
    def drifted(self) -> list[FeatureDrift]:
        """The drifted features, the farthest beyond its limit first."""
        found = [feature for feature in self.features if feature.drifted]
        return sorted(found, key=lambda feature: -feature.value / feature.limit)

    @property
    def share(self) -> float:
        """Share of the features that drifted."""
        return len(self.drifted) / len(self.features) if self.features else 0.0


def drift_evidence(
    reference: Profile | None,
    current: Profile,
    settings: DriftSettings,
    folder: Path | None = None,
    why_no_reference: str = "",
) -> DriftEvidence:
    """Compare a run's profile with the reference profile, which may be missing (``why_no_reference`` if it should not).

    ``folder``: where the engine leaves ``drift.html``, if it draws a page; an earlier one goes. With embeddings on both
    sides half of the false-alarm rate goes to them and half to the features.
    """
    if reference is None:
        groups = current.group_count()
        return DriftEvidence(None, len(current), groups=groups, why_no_reference=why_no_reference)
    sizes = (len(reference), len(current), reference.group_count(), current.group_count())
    if min(sizes[:2]) < settings.least_pictures or min(sizes[2:]) < settings.least_groups:
        return DriftEvidence(*sizes, engine=settings.engine, embeddings_why_not="too few pictures or groups")
    why_not = comparable(reference, current)
    limits = {
        "numeric": settings.numeric_limit,
        "categorical": settings.categorical_limit,
        "false_alarm_rate": settings.false_alarm_rate * (0.5 if why_not is None else 1.0),
        "permutations": settings.permutations,
        "seed": settings.seed,
    }
    engine: DriftEngine = make("drift_engine", settings.engine, limits)
    report = folder / REPORT if folder is not None else None
    if report is not None:
        # An engine without a page must not leave another comparison's page standing here.
        report.unlink(missing_ok=True)
    features = tuple(engine.compare(reference, current, report))
    embeddings = None
    if why_not is None:
        embeddings = embedding_drift(reference, current, settings.permutations, settings.seed)
    left = report.name if report is not None and report.is_file() else None
    return DriftEvidence(*sizes, settings.engine, features, embeddings, why_not or "", left)


def _graded(value: float, warns: float, fails: float) -> tuple[Answer, float, float]:
    answer: Answer = "fail" if value >= fails else "warn" if value >= warns else "pass"
    return answer, round(value, 4), fails if answer == "fail" else warns


class DriftGate(Gate[DriftSettings, DriftEvidence]):
    """Other pictures than production learnt from are no mistake; not knowing of it is."""

    name = "drift"
    phase = "before"
    title = "The data are like the reference"
    settings_model = DriftSettings
    evidence_model = DriftEvidence

    def judge(self, evidence: DriftEvidence) -> Verdict:
        """Judges by the share of drifted features and by how well embeddings can be told apart; the worse counts."""
        if evidence.reference_pictures is None:
            if evidence.why_no_reference:
                return self.verdict("warn", f"could not be compared with production: {evidence.why_no_reference}")
            return self.verdict("off", "nothing to compare with yet; this run's profile becomes the reference")
        settings = self.settings
        facts = self._facts(evidence)
        if not evidence.features:
            why = (
                f"too little to compare: {evidence.reference_pictures} pictures of {evidence.reference_groups} groups "
                f"in the reference, {evidence.pictures} of {evidence.groups} here; at least {settings.least_pictures} "
                f"pictures and {settings.least_groups} groups a side are needed to distinguish drift from chance"
            )
            return self.verdict("warn", why, **facts)
        answer, value, limit = self._worse(evidence)
        if answer == "pass":
            why = f"{len(evidence.drifted)} of {len(evidence.features)} features drifted{self._seen(evidence)}"
            return self.verdict("pass", why, value, limit, **facts)
        named = ", ".join(f"{item.feature} {item.reference} → {item.current}" for item in evidence.drifted[:SHOWN])
        why = (
            f"{len(evidence.drifted)} of {len(evidence.features)} features drifted from the reference"
            f"{f' ({named})' if named else ''}{self._seen(evidence)}. If the change is intended, set severity: warn "
            "in gates.yaml for this run; if not, check what was added (docs/drift.md)"
        )
        return self.verdict(self.broken() if answer == "fail" else "warn", why, value, limit, **facts)

    def _worse(self, evidence: DriftEvidence) -> tuple[Answer, float, float]:
        """The worse answer of features and embeddings, with the value and the limit that gave it."""
        settings, found = self.settings, evidence.embeddings
        answers = [_graded(evidence.share, settings.share_warns, settings.share_fails)]
        # An area that chance reaches as well says nothing, however large: there are few groups.
        if found is not None and found.p_value <= settings.false_alarm_rate / 2:
            answers.append(_graded(found.auc, settings.embedding_warns, settings.embedding_fails))
        return max(answers, key=lambda answer: SEVERITY[answer[0]])

    def _seen(self, evidence: DriftEvidence) -> str:
        if evidence.embeddings is None:
            return ""
        found = evidence.embeddings
        return f"; embeddings tell the two apart with AUC {found.auc:.2f} (chance reaches {found.chance:.2f})"

    def _facts(self, evidence: DriftEvidence) -> dict[str, object]:
        found = evidence.embeddings
        return {
            "engine": evidence.engine,
            "reference_pictures": evidence.reference_pictures,
            "pictures": evidence.pictures,
            "reference_groups": evidence.reference_groups,
            "groups": evidence.groups,
            "share": evidence.share,
            "features": [asdict(feature) for feature in evidence.features],
            "embeddings": asdict(found) if found is not None else None,
            "embeddings_why_not": evidence.embeddings_why_not,
            "report": evidence.report,
        }
