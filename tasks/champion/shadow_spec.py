"""Which registered versions make shadow predictions."""

from pydantic import BaseModel, ConfigDict, Field


class ShadowSpec(BaseModel):
    """How many versions predict each closed bar without serving."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Shadow predictions")

    versions: int = Field(
        default=30,
        ge=0,
        le=1_000,
        description="Newest registered versions, rejected ones left out, that store a shadow prediction of each closed "
        "bar; 0: none",
    )
