"""The gateway's store: every change of a job's mode, and by day what each job was asked, answered and paid.

It is a SQLite file, or a PostgreSQL database that several gateways share. It holds no texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    URL,
    Date,
    DateTime,
    Double,
    Engine,
    String,
    UniqueConstraint,
    create_engine,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tunewright.core.database import database_engine, lock_tables, place, url_in, user_errors
from tunewright.core.errors import UserError
from tunewright.gateway.config import GatewaySpec, JobSpec, Mode

SCHEMA = 1
"""The version of the tables."""
_LOCK = 0x74776777
"""The number of PostgreSQL's advisory lock for making the tables."""
THE_FILE, THE_GATEWAY = "gateway.yaml", "the gateway"
"""Who changes modes, beside people."""
OWN_FIRST = ("cascade", "own")
"""Modes in which the own model is asked first."""
_NAME_LETTERS = 200
"""The most of a version or of a model's name."""
AMOUNTS = (
    "requests",
    "asked",
    "sure",
    "own",
    "unsure",
    "fallbacks",
    "failed",
    "late",
    "bytes",
    "own_bytes",
    "prompt_tokens",
    "cached_tokens",
    "answer_tokens",
    "priced",
    "paid_usd",
    "audits",
    "audit_usd",
    "compared",
    "agreed",
    "compared_sure",
    "agreed_sure",
)
"""What is added up of a job and day; see `JobTally`."""


class _Table(DeclarativeBase):
    type_annotation_map: ClassVar = {dict[str, Any]: JSON, datetime: DateTime(timezone=True), float: Double}


class _Schema(_Table):
    __tablename__ = "gateway_schema"
    version: Mapped[int] = mapped_column(primary_key=True)


class ModeChange(_Table):
    """A change of a job's mode. Changes are only ever added."""

    __tablename__ = "mode_changes"
    id: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[datetime]
    job: Mapped[str] = mapped_column(String(60), index=True)
    mode: Mapped[str] = mapped_column(String(10))
    share: Mapped[float]
    audit: Mapped[float]
    by: Mapped[str]
    """The person's name on the machine, or one of `THE_FILE` and `THE_GATEWAY`."""
    why: Mapped[str]
    file: Mapped[str]
    """Mode, share and audit as gateway.yaml had them: if it has other ones later, it was changed later."""

    @property
    def setting(self) -> Setting:
        """How the job is answered from then on."""
        return Setting(self.mode, self.share, self.audit)  # type: ignore[arg-type]


class JobTally(_Table):
    """What a job was asked and answered on a day in a mode, in one gateway."""

    __tablename__ = "tallies"
    __table_args__ = (UniqueConstraint("day", "job", "mode", "version", "gateway"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(Date)
    job: Mapped[str] = mapped_column(String(60))
    mode: Mapped[str] = mapped_column(String(10))
    version: Mapped[str] = mapped_column(String(_NAME_LETTERS))
    """Of the own models."""
    gateway: Mapped[str] = mapped_column(String(80))
    """Host and process."""
    model: Mapped[str] = mapped_column(String(_NAME_LETTERS))
    """The API's model, as the last request named it."""
    requests: Mapped[float]
    asked: Mapped[float]
    """Answered by the own model, whether or not the client got that answer."""
    sure: Mapped[float]
    """Those of them that it was sure of."""
    own: Mapped[float]
    """Answered by the own model, fallbacks included."""
    unsure: Mapped[float]
    """Asked of the own model, which was not sure enough."""
    fallbacks: Mapped[float]
    """Answered by the own model because the API failed."""
    failed: Mapped[float]
    """Asked of the own model, which gave no answer."""
    late: Mapped[float]
    """Asked of the own model, which was slower than the job's goal."""
    bytes: Mapped[float]
    """Of the requests that the API answered with a price, audits included; the next three are of the same."""
    own_bytes: Mapped[float]
    """Of the requests that the own model answered."""
    prompt_tokens: Mapped[float]
    cached_tokens: Mapped[float]
    answer_tokens: Mapped[float]
    priced: Mapped[float]
    """API answers with token counts and a price."""
    paid_usd: Mapped[float]
    """For the API's answers, without audits."""
    audits: Mapped[float]
    """Own answers for which the API was asked too."""
    audit_usd: Mapped[float]
    compared: Mapped[float]
    """Own answers that were compared with the API's."""
    agreed: Mapped[float]
    """The sum of their agreements, 0 to 1 each."""
    compared_sure: Mapped[float]
    """Those of them that the own model was sure of."""
    agreed_sure: Mapped[float]
    own_seconds: Mapped[dict[str, Any]]
    """Histogram of the own model's latency: counts by bucket; see `tunewright.gateway.takeover.tallies`."""
    api_seconds: Mapped[dict[str, Any]]
    """The same of the API's."""


class Spending(_Table):
    """What one gateway has paid in a month in the scope of a budget."""

    __tablename__ = "spending"
    __table_args__ = (UniqueConstraint("month", "scope", "gateway"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    month: Mapped[str] = mapped_column(String(7))
    """Such as 2026-11."""
    scope: Mapped[str] = mapped_column(String(80))
    gateway: Mapped[str] = mapped_column(String(80))
    usd: Mapped[float]


@dataclass(frozen=True)
class Setting:
    """How a job is answered now."""

    mode: Mode
    share: float
    audit: float

    def __str__(self) -> str:
        share = "" if self.share == 1 else f" for {self.share:.4g} of the requests"
        return f"{self.mode}{share}"


def of_file(job: JobSpec) -> Setting:
    """The setting in gateway.yaml."""
    return Setting(job.mode, job.share, job.audit)


def _change(job: str, setting: Setting, by: str, why: str, file: str) -> ModeChange:
    """A change now.

    Args:
        file: `_key` of what the file says.
    """
    return ModeChange(
        time=datetime.now(UTC),
        job=job,
        mode=setting.mode,
        share=setting.share,
        audit=setting.audit,
        by=by,
        why=why,
        file=file,
    )


def storable(text: str) -> str:
    """A model's name or a version as both databases take it. A client may name anything: half a character, a NUL, or
    a whole book."""
    return text[:_NAME_LETTERS].encode("utf-8", "replace").decode().replace("\0", "")


class GatewayStore:
    """The store. All methods may be called from any thread.

    Raises:
        UserError: the database does not answer, can't be written, or belongs to another program or version.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        with user_errors(engine.url), engine.connect() as connection:
            lock_tables(connection, _LOCK)
            _Table.metadata.create_all(connection)
            version = connection.scalar(select(_Schema.version))
            if version is None:
                connection.execute(insert(_Schema), {"version": SCHEMA})
            connection.commit()
        if version not in (None, SCHEMA):
            raise UserError(
                f"Another version of Tunewright made this store: its schema is {version}, this version has {SCHEMA}.",
                where=place(engine.url),
                fix="Name another file with `store` in gateway.yaml.",
            )

    def close(self) -> None:
        self._engine.dispose()

    def change(self, job: str, setting: Setting, file: Setting, by: str, why: str) -> None:
        """Set how a job is answered. Running gateways follow within seconds."""
        with self._session() as session:
            session.add(_change(job, setting, by, why, _key(file)))

    def take_back(self, job: str, why: str) -> None:
        """Let the API answer a job again, unless somebody has already changed that its own model is asked first."""
        with self._session() as session:
            of_job = select(ModeChange).where(ModeChange.job == job)
            last = session.scalar(of_job.order_by(ModeChange.id.desc()).limit(1))
            if last is None or last.mode not in OWN_FIRST:
                return
            # With the file of the last change: the one that this gateway has read may be older.
            session.add(_change(job, Setting("shadow", 1.0, last.audit), THE_GATEWAY, why, last.file))

    def read_file(self, jobs: Mapping[str, JobSpec]) -> None:
        """Set what a file says that was just read, of each job that is new or of which it says something new.

        Only a reading may do that, and once. Gateways that read the file at other times would else set their own again
        and again, and undo what was changed since.
        """
        found = self._last_changes()
        for name, job in jobs.items():
            file = of_file(job)
            if name not in found:
                self.change(name, file, file, THE_FILE, "first start")
            elif found[name].file != _key(file):
                self.change(name, file, file, THE_FILE, "changed in the file")

    def settings(self, jobs: Mapping[str, JobSpec]) -> dict[str, Setting]:
        """How each job is answered now: as it was changed last. A job that is new will begin as its file says."""
        found = self._last_changes()
        return {name: found[name].setting if name in found else of_file(job) for name, job in jobs.items()}

    def newest_change(self) -> int:
        """A number that grows with every change of a mode."""
        with self._session() as session:
            return session.scalar(select(func.max(ModeChange.id))) or 0

    def changes(self, job: str | None = None) -> list[ModeChange]:
        """All changes, the newest first."""
        with self._session() as session:
            asked = select(ModeChange).order_by(ModeChange.id.desc())
            return list(session.scalars(asked if job is None else asked.where(ModeChange.job == job)))

    def save(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the tallies of a gateway, each in place of what it wrote of the same day, job, mode and version."""
        with self._session() as session:
            for row in rows:
                keys = [getattr(JobTally, key) == row[key] for key in ("day", "job", "mode", "version", "gateway")]
                known = session.scalar(select(JobTally.id).where(*keys))
                if known is None:
                    session.add(JobTally(**row))
                else:
                    # All columns. Of an object SQLAlchemy writes those that changed, and keeps a compiled statement for
                    # each combination of columns, of which there are hundreds.
                    session.execute(update(JobTally).where(JobTally.id == known).values(row))

    def spend(self, gateway: str, month: str, usd: Mapping[str, float]) -> dict[str, float]:
        """Write what a gateway has paid in a month so far, by scope. Returns what the others have."""
        with self._session() as session:
            of_month = select(Spending).where(Spending.month == month)
            rows = {(each.gateway, each.scope): each for each in session.scalars(of_month)}
            others: dict[str, float] = {}
            for (name, scope), row in rows.items():
                if name != gateway:
                    others[scope] = others.get(scope, 0.0) + row.usd
            for scope, amount in usd.items():
                if (gateway, scope) in rows:
                    rows[gateway, scope].usd = amount
                else:
                    session.add(Spending(month=month, scope=scope, gateway=gateway, usd=amount))
            return others

    def known(self, job: str, version: str) -> tuple[float, float]:
        """(own answers of a version so far, those of them that it was sure of)."""
        with self._session() as session:
            sums = select(func.sum(JobTally.asked), func.sum(JobTally.sure))
            of_version = JobTally.job == job, JobTally.version == storable(version)
            asked, sure = session.execute(sums.where(*of_version)).one()
            return asked or 0.0, sure or 0.0

    def tallies(self) -> list[JobTally]:
        """All tallies, the oldest first."""
        with self._session() as session:
            return list(session.scalars(select(JobTally).order_by(JobTally.day, JobTally.id)))

    def _last_changes(self) -> dict[str, ModeChange]:
        """The last change of each job."""
        with self._session() as session:
            last = select(func.max(ModeChange.id)).group_by(ModeChange.job)
            return {each.job: each for each in session.scalars(select(ModeChange).where(ModeChange.id.in_(last)))}

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with user_errors(self._engine.url), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session


def open_store(spec: GatewaySpec, *, make: bool = True) -> GatewayStore:
    """The store of a gateway.

    Args:
        make: whether to make its file if there is none yet; otherwise an empty store in memory stands for it.

    Raises:
        UserError: as `GatewayStore`; the variable with the database's address is not set.
    """
    if spec.database is not None:
        return GatewayStore(database_engine(url_in(spec.database, "database")))
    if not make and not spec.store.exists():
        return GatewayStore(create_engine("sqlite://"))
    return GatewayStore(database_engine(URL.create("sqlite", database=str(spec.store))))


def _key(setting: Setting) -> str:
    return f"{setting.mode} {setting.share:g} {setting.audit:g}"
