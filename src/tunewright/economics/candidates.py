"""Checks of the APIs and machines that a spec names against the price book, before anything is asked or trained."""

from __future__ import annotations

from datetime import date

from tunewright.config import ApiSpec, MoneySpec, Spec
from tunewright.core.errors import UserError, did_you_mean
from tunewright.economics.lifetimes import Lifetime, lifetime
from tunewright.economics.prices import ApiPrice, PriceBook


def check_prices(spec: Spec, book: PriceBook, day: date) -> None:
    """Check that all that a run prices has a price.

    Raises:
        UserError: as `check_apis`; or the machine that serves, or the judge, has no price.
    """
    check_apis(spec, book, day)
    book.machine(spec.traffic.machine)
    if spec.judge and spec.judge.priced_as:
        book.api(spec.judge.priced_as, "judge.priced_as")


def check_apis(spec: Spec | MoneySpec, book: PriceBook, day: date) -> None:
    """Check a spec's APIs. The API paid for today may have been shut down: the verdict says so. Another one may stand
    by answers that it gave before; the step `baseline` reports one that it would have to ask.

    Raises:
        UserError: an API has no price, does not take the reasoning effort that the spec names, or has been shut down
            and has neither an endpoint nor recorded answers, so that it could only be recommended.
    """
    for name, settings in spec.candidate_apis.items():
        price = book.api(settings.model)
        where = spec.section_of_api(name)
        if settings.reasoning_effort:
            _check_effort(settings, price, where)
        span = lifetime(settings.model, price, settings.url, day, spec.costs.horizon_months)
        if span.ended and name != spec.api.label and not settings.measured:
            raise UserError(
                f"{span.summary.removesuffix('.')}: it can't be asked any more.",
                where=where,
                why="An API that has been shut down can neither be measured nor recommended.",
                fix="Take it out of `apis`, or name a file of answers that it gave (`recorded`). "
                "See: tunewright models prices",
            )


def ended_apis(spec: Spec, book: PriceBook, day: date) -> dict[str, Lifetime]:
    """The spec's APIs that have been shut down, by name."""
    months = spec.costs.horizon_months
    spans = {
        name: lifetime(each.model, book.api(each.model), each.url, day, months)
        for name, each in spec.candidate_apis.items()
    }
    return {name: span for name, span in spans.items() if span.ended}


def _check_effort(settings: ApiSpec, price: ApiPrice, where: str) -> None:
    effort = settings.reasoning_effort or ""
    if price.provider is not None and not price.reasons:
        raise UserError(
            f"{settings.model} does not think before it answers, so it takes no reasoning effort.",
            where=where,
            fix="Leave `reasoning_effort` out.",
        )
    if price.efforts and effort not in price.efforts:
        raise UserError(
            f"{settings.model} takes no reasoning effort '{effort}'.",
            where=where,
            fix=did_you_mean(effort, price.efforts, f"It takes: {', '.join(price.efforts)}."),
        )


def next_lower(settings: ApiSpec, price: ApiPrice) -> str | None:
    """The reasoning effort below the spec's; the lowest where the spec names none; None where there is none lower."""
    efforts = price.efforts
    if not efforts:
        return None
    if settings.reasoning_effort is None:
        return efforts[0]
    index = efforts.index(settings.reasoning_effort)
    return efforts[index - 1] if index else None
