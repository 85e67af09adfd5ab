"""One comment of a project on a pull request, kept up to date."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.gate.sites import STRANGER, TOKEN, Answer, AzureSite, GitHubSite, served
from tunewright.gate.comment import mark
from tunewright.gate.post import TRIES, AzureDevOps, GitHub, NotWritten, PullRequest

MARK = mark("tickets")


def put(
    site: GitHubSite | AzureSite,
    text: str = "new",
    *,
    fork: bool = False,
    token: str = TOKEN,
    open_: bool = True,
    waits: list[float] | None = None,
    number: int = 7,
) -> str:
    place: PullRequest
    if isinstance(site, GitHubSite):
        place = GitHub.at(site.address, "acme/tickets", number, token, fork=fork)
    else:
        place = AzureDevOps.at(f"{site.address}/acme/", "project", "repo", number, token, fork=fork)
    waited = [] if waits is None else waits
    return replace(place, site=replace(place.site, sleep=waited.append)).put(MARK, f"{MARK}\n\n{text}", open_=open_)


def refusal(site: GitHubSite | AzureSite, **how: object) -> str:
    with pytest.raises(NotWritten) as why:
        put(site, **how)
    assert TOKEN not in str(why.value)
    return str(why.value)


def test_the_first_run_writes_a_comment_and_the_next_one_changes_it(github: GitHubSite) -> None:
    for number in range(5):
        github.add(f"talk {number}", STRANGER)
    assert put(github, "first").endswith("issuecomment-6")
    assert put(github, "second").endswith("issuecomment-6")
    assert github.written == ["POST", "PATCH"]
    assert len(github.comments) == 6
    assert github.comments[5]["body"] == f"{MARK}\n\nsecond"


def test_all_pages_are_looked_through(github: GitHubSite) -> None:
    for number in range(2):
        github.add(f"talk {number}", STRANGER)
    put(github)
    for number in range(4):
        github.add(f"more talk {number}", STRANGER)
    put(github)
    pages = [path for method, path, _ in github.asked if method == "GET" and "page=" in path]
    assert [path.partition("&page=")[2] for path in pages] == ["1", "1", "2", "3", "4"]
    assert all("per_page=100" in path for path in pages)
    assert github.written == ["POST", "PATCH"]


def test_another_projects_comment_is_left_alone(github: GitHubSite) -> None:
    github.add(f"{mark('tickets-2')}\n\nother")
    put(github)
    assert github.written == ["POST"]
    assert github.comments[0]["body"].endswith("other")


def test_a_mark_that_a_stranger_wrote_is_not_taken_for_ours(github: GitHubSite, azure: AzureSite) -> None:
    github.add(f"{MARK}\n\nall is well", STRANGER)
    azure.add(f"{MARK}\n\nall is well", ours=False)
    for site in (github, azure):
        put(site)
        put(site, "again")
    assert [each["body"].rpartition("\n")[2] for each in github.comments] == ["all is well", "again"]
    assert [each["comments"][0]["content"].rpartition("\n")[2] for each in azure.threads] == ["all is well", "again"]


def test_a_mark_within_a_comment_is_none(github: GitHubSite) -> None:
    github.add(f"> {MARK}\n\nquoted by a bot")
    put(github)
    assert github.written == ["POST"]


def test_a_users_token_finds_the_users_comment(github: GitHubSite) -> None:
    github.user = "jo"
    github.add(f"{MARK}\n\nof a bot", {"login": "some[bot]", "type": "Bot"})
    put(github)
    put(github)
    assert github.written == ["POST", "PATCH"]
    assert github.comments[0]["body"].endswith("of a bot")


def test_a_forks_run_may_only_read(github: GitHubSite, azure: AzureSite) -> None:
    github.may_write = azure.may_write = False
    assert refusal(github, fork=True) == "The pull request comes from a fork, whose runs GitHub lets read only."
    assert refusal(azure, fork=True).startswith("The pull request comes from a fork")


def test_a_missing_permission_is_named(github: GitHubSite, azure: AzureSite) -> None:
    github.may_write = azure.may_write = False
    assert "permissions: pull-requests: write" in refusal(github)
    assert "contribute to pull requests" in refusal(azure)


def test_a_pull_request_that_is_not_there_is_named(github: GitHubSite, azure: AzureSite) -> None:
    assert "no pull request 8 of acme/tickets" in refusal(github, number=8)
    assert "no pull request 8" in refusal(azure, number=8)


def test_a_wrong_token_is_reported_without_naming_it(github: GitHubSite, azure: AzureSite) -> None:
    for site in (github, azure):
        message = refusal(site, token="another-secret")
        assert "401" in message
        assert "another-secret" not in message


@pytest.mark.parametrize("code", [429, 403, 503])
def test_a_busy_site_is_asked_again_when_it_says(code: int, github: GitHubSite) -> None:
    github.first = [Answer(code, {}, {"Retry-After": "3"})] * 2
    waits: list[float] = []
    put(github, waits=waits)
    assert waits == [3, 3]
    assert github.written == ["POST"]


def test_a_spent_limit_waits_until_it_is_renewed(github: GitHubSite) -> None:
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 20)}
    github.first = [Answer(403, {}, spent)]
    waits: list[float] = []
    put(github, waits=waits)
    assert 15 < waits[0] <= 20


def test_a_long_wait_is_not_waited_for(github: GitHubSite) -> None:
    github.first = [Answer(429, {}, {"Retry-After": "3600"})]
    waits: list[float] = []
    assert "asks to wait for 3,600 seconds" in refusal(github, waits=waits)
    assert not waits


def test_a_site_that_stays_busy_is_given_up(github: GitHubSite) -> None:
    github.first = [Answer(429, {})] * TRIES
    waits: list[float] = []
    assert "429" in refusal(github, waits=waits)
    assert waits == [2, 4, 8]


def test_a_comment_that_may_have_been_written_is_not_written_twice(github: GitHubSite, azure: AzureSite) -> None:
    for site in (github, azure):
        empty = Answer(200, [] if site is github else {"value": []})
        site.first = [empty, Answer(502)]
        assert "502" in refusal(site)
        assert site.written == ["POST"]


def test_a_failed_change_writes_no_second_comment(github: GitHubSite, azure: AzureSite) -> None:
    for site in (github, azure):
        put(site)
        first = site.answer("GET", *ASKED[type(site)], None)
        me = [Answer(403)] if site is github else []
        site.first = [first, *me, *[Answer(500)] * TRIES]
        assert "500" in refusal(site)
        assert set(site.written) == {"POST", "PATCH"}
        assert site.written.count("POST") == 1


ASKED = {
    GitHubSite: ("/repos/acme/tickets/issues/7/comments", {"page": ["1"]}),
    AzureSite: ("/acme/project/_apis/git/repositories/repo/pullRequests/7/threads", {"api-version": ["7.1"]}),
}


def test_a_site_that_cannot_be_reached_is_reported() -> None:
    place = GitHub.at("http://127.0.0.1:9", "acme/tickets", 7, TOKEN, fork=False)
    with pytest.raises(NotWritten, match="GitHub can't be reached") as why:
        place.put(MARK, "text", open_=True)
    assert TOKEN not in str(why.value)


def test_a_token_is_in_no_representation() -> None:
    assert TOKEN not in repr(GitHub.at("http://127.0.0.1:9", "acme/tickets", 7, TOKEN, fork=False))


def test_an_answer_that_leads_elsewhere_is_not_followed(github: GitHubSite) -> None:
    other = GitHubSite()
    with served(other):
        github.first = [Answer(302, None, {"Location": f"{other.address}/repos/acme/tickets/issues/7/comments"})]
        assert "302" in refusal(github)
        assert not other.asked


def test_a_thread_is_open_while_a_target_is_missed(azure: AzureSite) -> None:
    assert put(azure, "bad").endswith("/acme/project/_git/repo/pullrequest/7?discussionId=1")
    assert azure.threads[0]["status"] == "active"
    assert put(azure, "good", open_=False).endswith("?discussionId=1")
    assert azure.threads[0]["status"] == "closed"
    put(azure, "bad again")
    assert [thread["status"] for thread in azure.threads] == ["active"]
    assert azure.threads[0]["comments"][0]["content"] == f"{MARK}\n\nbad again"


def test_a_deleted_thread_is_not_written_in(azure: AzureSite) -> None:
    azure.add(f"{MARK}\n\nold", isDeleted=True)
    azure.add("")["comments"] = []
    put(azure)
    assert [thread["comments"][0]["content"] for thread in azure.threads if thread["comments"]][-1] == f"{MARK}\n\nnew"


def test_a_sign_in_page_is_no_success(azure: AzureSite) -> None:
    azure.first = [Answer(203, "<html>")]
    assert "SYSTEM_ACCESSTOKEN" in refusal(azure)
