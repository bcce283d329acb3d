"""Turns kafka-python's errors into the log's, for every module that calls kafka-python."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kafka import errors

from streams.log import LogError, LogRefused, LogUnavailable, OffsetLost
from streams.retry import Outage

CHARACTERS_MAX = 500
_FENCED = (errors.ProducerFencedError, errors.InvalidProducerEpochError)
_TRANSLATIONS: dict[type[LogError], tuple[type[Exception], ...]] = {
    OffsetLost: (errors.OffsetOutOfRangeError, errors.LogTruncationError),
    LogRefused: (errors.AuthorizationError, errors.SaslAuthenticationFailedError, errors.UnsupportedVersionError),
    LogUnavailable: (errors.RetriableError, errors.BrokerNotAvailableError),
}


@contextlib.contextmanager
def translate_errors(action: str, outage: Outage | None = None) -> Iterator[None]:
    """Raise the log's error for kafka-python's; `action` says what was done, `outage` learns whether a broker answered.

    An error that stands in no row of the table becomes a plain LogError.
    """
    try:
        yield
    except errors.KafkaError as error:
        # The order of the rows counts: the first that fits decides.
        kind = next((kind for kind, causes in _TRANSLATIONS.items() if isinstance(error, causes)), LogError)
        # Cut, because a question about a thousand partitions fails with the names of all of them.
        text = f"{action}: {error}"[:CHARACTERS_MAX]
        if outage is not None and kind is LogUnavailable:
            outage.note_silence(text)
        raise kind(text) from error
    if outage is not None:
        outage.note_answer()


def is_fencing(error: Exception) -> bool:
    """Whether another producer of the same transactional id has taken over; kafka-python may wrap that error."""
    # kafka-python wraps the broker's answer in one error or another, depending on the step that met it.
    causes = [error, *error.args, error.__cause__]
    return any(isinstance(cause, _FENCED) for cause in causes)
