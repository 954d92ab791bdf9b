from __future__ import annotations

from google.rpc import error_details_pb2

from fairlead_replica.routed.problems import LISTED, BadRequestError, Problem


def told(error: BadRequestError) -> list[tuple[str, str]]:
    details = error_details_pb2.BadRequest()
    assert error.outcome().status.details[-1].Unpack(details)
    return [(each.field, each.description) for each in details.field_violations]


def test_every_problem_is_told() -> None:
    problems = [Problem(f"body[{number}]", "is wrong") for number in range(LISTED)]
    assert told(BadRequestError(problems)) == problems


def test_of_very_many_how_many_there_are() -> None:
    error = BadRequestError(Problem(f"body[{number}]", "is wrong") for number in range(LISTED + 60_000))
    assert told(error) == [*error.problems[:LISTED], ("", "and 60000 more")]
    assert str(error).endswith("; and 60097 more")


def test_names_that_are_the_senders_are_not_repeated_whole() -> None:
    error = BadRequestError([Problem("body." + "x" * 100_000, "is \ud800 not known: " + "y" * 100_000)])
    ((field, description),) = told(error)
    assert (field[:8], field[-1], len(field)) == ("body.xxx", "…", 501)
    assert (description[:22], description[-1], len(description)) == ("is ? not known: yyyyyy", "…", 501)
    assert len(str(error)) < 1200
