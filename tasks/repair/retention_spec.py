"""How long a home keeps what it could do without."""

from pydantic import BaseModel, ConfigDict, Field


class RetentionSpec(BaseModel):
    """How long a home keeps what is not needed to predict, decide and explain decisions."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Retention")

    versions: int = Field(
        60, ge=30, le=100_000, description="Newest versions of a series kept with their files; champions always are."
    )
    fold_days: int = Field(30, ge=1, le=36_500, description="Days that the MLflow runs of single folds are kept.")
    run_days: int = Field(
        180,
        ge=1,
        le=36_500,
        description="Days that MLflow runs without a decision (failed, unchanged, killed) and their versions are kept.",
    )
    page_days: int = Field(
        90, ge=1, le=36_500, description="Days that reports, Data Docs and logs are kept; the champion's report stays."
    )
    table_days: int = Field(
        30,
        ge=7,
        le=36_500,
        description="Days that files of earlier table versions are kept if no kept model needs them.",
    )
