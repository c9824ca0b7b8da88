"""Flags of the specs, one panel of `--help` for each spec, the most used flags first."""

from typing import Annotated

from cyclopts import Group, Parameter

from data_checks.check_spec import CheckSpec
from model.abstention import AbstentionSpec
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.panel import PanelSpec
from model.panel_promotion import PanelPromotion
from model.promotion_rule import PromotionRule
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.sources.source_spec import SourceSpec

BASICS = Group(
    "Basics",
    help="Most used besides these: --source.kind, --source.path, --source.symbol, --source.interval, "
    "--source.exchange, --training.epochs, --training.seed.",
    sort_key=0,
)
SourceFlags = Annotated[SourceSpec, Parameter(group=Group("Source", sort_key=1))]
WindowFlags = Annotated[WindowSpec, Parameter(group=Group("Window", sort_key=2))]
TrainingFlags = Annotated[TrainingSpec, Parameter(group=Group("Training", sort_key=3))]
FoldFlags = Annotated[FoldSpec, Parameter(group=Group("Folds", sort_key=4))]
NetworkFlags = Annotated[NetworkSpec, Parameter(group=Group("Network", sort_key=5))]
PromotionFlags = Annotated[PromotionRule, Parameter(group=Group("Promotion", sort_key=6))]
PanelPromotionFlags = Annotated[PanelPromotion, Parameter(group=Group("Promotion", sort_key=6))]
AbstentionFlags = Annotated[AbstentionSpec, Parameter(group=Group("Abstention", sort_key=7))]
PanelFlags = Annotated[PanelSpec, Parameter(group=Group("Panel", sort_key=1))]
CheckFlags = Annotated[CheckSpec, Parameter(group=Group("Data checks", sort_key=8))]
