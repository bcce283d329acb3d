"""The root of every error that fedlog raises on purpose: what a terminal exits with, and the code for an API.

A console or an API recognises `FedlogError` and reads its two attributes. Each error class is defined beside the code
that raises it.
"""

from __future__ import annotations

import inspect

EXIT_NO = 1  # the answer is no: a broken chain, a name that is taken
EXIT_USAGE = 2  # wrong use: an option, a setting, a policy
EXIT_UNAVAILABLE = 3  # no Kafka answers
EXIT_LOST = 4  # the log no longer holds what is needed
EXIT_CONFIGURATION = 78  # sysexits.h: starting again cannot help


class FedlogError(Exception):
    """fedlog cannot do what was asked.

    The first paragraph of a class's docstring is its message when it is raised without one.

    FedlogError
     ├── MalformedError          bytes are not the canonical encoding of a value
     ├── PolicyError             a policy contradicts itself or is out of bounds
     ├── BodyError               a body does not decode
     ├── ChainBroken             a journal's record does not follow the one before it
     │    ├── OutOfStep          it reads well, but it is not the next batch
     │    └── JournalBroken      the same with the place in the log and the records to look at
     ├── LogError                the log could not do what was asked
     │    ├── WriterFenced       another writer of the same name has taken over
     │    ├── CommitUncertain    the outcome of a commit is unknown
     │    ├── LogUnavailable     no broker answers
     │    │    ├── ReaderStalled  a reader stands still although the log goes on
     │    │    └── ReadersHeldBack  a transaction that nothing ends holds readers back
     │    ├── LogRefused         the broker says no
     │    │    ├── NoAuthorizer  the brokers ask nobody what they may do
     │    │    └── ExportDamaged a folder is not the export that its manifest describes
     │    ├── TopicUnfit         a topic, or the cluster, is not set up as fedlog needs it
     │    └── OffsetLost         the log does not hold the offset that was asked for
     ├── OperatorKeyError        the operator's key file cannot be used
     │    └── KeyExpired         the certificate of a role's key is over
     ├── EpochKeyMissing         what is sealed under an epoch cannot be opened here
     ├── EpochKeysUnusable       the folder of the keys of sealed tasks cannot be used
     ├── HelperStoreUnusable     the folder of a helper cannot be used
     ├── NoiseKeyMissing         the operator's key is not the one that a release names
     ├── BodyLost                a body that a journal names is not there
     ├── ReplayDiffers           a journal folds to another state than it recorded
     ├── DecisionTooLarge        what an input causes does not fit into a record
     ├── Gap                     an input skipped an offset
     ├── StateHalfApplied        a decision was folded half-way
     ├── Unusable                a snapshot cannot be started from
     ├── DeviceError             a device cannot go on
     ├── FleetError              a fleet cannot go on
     ├── IdentityError           a folder holds no identity, or another device's
     ├── OutboxError             an outbox holds something else
     ├── DamagedError            neither copy of a file is whole
     ├── FolderTooOpen           others may look into a folder that holds secrets
     ├── FolderInUse             another process works in the same folder
     ├── MetricsUnserved         metrics cannot be served where they should be
     ├── LinkUnavailable         a device does not reach its server
     ├── ModelMissing            the model that a lease starts from cannot be read
     ├── EnrolmentFailed         a device is not enrolled
     ├── EnrolmentMissing        nobody has opened that enrolment
     ├── SubjectForgotten        somebody asked to be forgotten, and may not come again
     ├── SubjectUnknown          no salt here leads to a subject
     ├── GivenUp                 there will be no update under this lease
     ├── NotFiniteError          training gave NaN or infinity
     ├── LearnerError            a user's code failed, or gave something else than was asked for
     │    ├── TookTooLong        it went on beyond the time that it has
     │    └── TooFewClasses      a device's labels have fewer classes than the policy asks for
     ├── TaskNotFound            nobody has created the task of a device
     ├── AttackError             a test's attack cannot be carried out as it was asked for
     ├── DataConflict            the policy and an option name different data
     ├── DataUnnamed             nobody names the data that score a task
     ├── CohortsUnusable         held-out examples cannot be told apart by cohort
     ├── PluginError             a plugin name leads to nothing that can be called
     │    ├── PluginNotAllowed   the log names code that this machine may not run
     │    ├── ModelError         a model cannot be trained this way
     │    └── DataError          a data plugin returned nothing to train on
     ├── TaskUnfit               a task contradicts its own policy
     ├── HistoryGap              the log no longer holds what a history has not read
     ├── HistoryUnfit            a file is no history that can go on
     ├── HistoryUnwritable       the file of a history cannot be written
     ├── HistoryInUse            another process writes a history
     ├── HistoryServed           another process keeps a history up to date, and answers
     ├── SocketUnusable          nobody could ask a history while it is written
     ├── ReceiptInvalid          a receipt does not prove what it says
     ├── ReceiptMissing          the log cannot prove what became of an update
     ├── ReceiptWithheld         a receipt says what only an operator may see
     ├── QueryRefused            a question to the history cannot be answered
     ├── NoPicture               a picture cannot be drawn here, or not in that format
     ├── CollectorUnfit          the address of a collector of traces cannot be used
     ├── CollectorUnavailable    no collector of traces answers
     ├── SpansRefused            a collector does not take spans
     ├── WriterGone              who writes a history has ended in the midst of an answer
     ├── ServerAway              no MLflow answers
     ├── ServerRefuses           MLflow says no
     ├── ModelTaken              a registered model of that name is somebody else's
     ├── StandingUnfit           a file is not the position of this subscriber
     ├── SettingsError           a setting is missing or out of bounds
     │    └── NoBroker           no servers were named, and no embedded broker runs
     ├── BrokerError             the embedded broker could not do what was asked
     │    └── BrokerDied         it ended while it was being started
     ├── WorkerCannotRun         a worker ended because of its settings
     ├── DemoFailed              the demo did not reach its end
     ├── RunFailed               a run came to no end of its own
     ├── TierUnknown             there is no tier of that name
     ├── TooFewDevices           a round needs more devices than were asked for
     ├── Incomparable            policies have no split in common
     ├── LookingRefused          nobody may compare the single updates of a task
     ├── Incommensurable         two histograms have no bins in common, or no examples
     ├── NotRepeatable           a run cannot be deterministic, or would mislead
     ├── RunInProgress           another run is at work in the folder
     ├── ServiceEnded            a process that a run needs has ended
     ├── HabitsError             a file of habits cannot be used
     ├── HeadStartFailed         the embedded broker's head start could not be made
     ├── AgeInvalid              what was given as an age is none
     ├── OperatorError           what an operator asked for cannot be done
     │    ├── TaskUnknown        there is no task of that name
     │    ├── TaskExists         there is one already
     │    ├── TaskOver           a task is closed or halted for good
     │    ├── TaskNameInvalid    a name cannot be that of a task
     │    ├── TaskTooLarge       a task's description does not fit into one record
     │    ├── SuccessorExists    another task carries on from that one already
     │    ├── ParentUnprotected  a private task cannot carry on from one without privacy
     │    ├── BudgetRefused      the devices of a population cannot be promised that
     │    ├── BudgetUnnoticed    a budget was signed, and its aggregator has not taken it
     │    ├── OutsideBudget      a task has no place beside the budget of a population
     │    ├── RolloutMissing     the policy of a task has no rollout
     │    ├── RolloutOrderRefused  an order changes nothing in a rollout
     │    ├── OrderUnnoticed     an order was signed, and the rollout has not decided it
     │    ├── BudgetSpent        the tasks before have spent all that the policy allows
     │    ├── WriteHidden        what was written cannot be read back yet
     │    ├── CloseUnnoticed     the aggregator has not noticed a close in time
     │    ├── DeviceNotQuarantined  no device of this name is quarantined
     │    ├── ModelMismatch      a model does not fit the policy
     │    ├── MeasurementUnprotected  a measurement of a private task has no privacy itself
     │    ├── ProjectRefused     a project cannot be made under this name
     │    ├── WeightsUnfit       a file holds no weights of the policy's model
     │    ├── VersionUnknown     a task has no version of that number
     │    │    └── NothingPromoted  no version of it is in production
     │    └── ModelGone          retention has deleted a model
     ├── StoreError              the place of an archive cannot be used
     │    ├── StoreAway          it does not answer, or not in time
     │    │    └── StoreFull     it has no room
     │    ├── StoreRefused       it says no
     │    └── StoreTaken         another archive stands there
     ├── Unauthenticated         a request to the server has no token that holds
     ├── NotAllowed              a token's role may not do what was asked
     ├── RequestRefused          a request to the server cannot be understood
     ├── PositionNotReached      a history is not as far as was asked for
     ├── Refresh                 a history was built anew while somebody followed it
     ├── ForeignHost             a request names a host that the server is not
     ├── ForgedRequest           a request changes something, and no page of ours sent it
     ├── BodyTooLarge            the body of a request is too large
     ├── RateExceeded            too many requests
     ├── TokenKeyUnfit           the key that signs tokens cannot be used
     ├── SubjectInvalid          a token's subject is no name
     ├── GatewayUnfit            the address of a gateway cannot be used
     ├── Refusal                 the gateway refuses a device's request
     │    ├── Unreadable         it cannot be understood
     │    ├── Unproven           a signature or a lease does not hold
     │    ├── Expired            a device's certificate, or its token, has run out
     │    ├── SignatureOld       a request was signed at another time, or came before
     │    ├── Unknown            there is nothing of that name
     │    ├── LeaseOver          the lease is over
     │    ├── RoundOver          an update from that version cannot count any more
     │    ├── TooLarge           more bytes than there may be
     │    ├── HeadTooLarge       more headers, or longer ones, than there may be
     │    ├── Encoded            a body has an encoding around it
     │    ├── Conflict           an upload stands elsewhere than the request says
     │    ├── TooOften           more requests than there may be in that time
     │    └── Overloaded         nothing more can be taken now
     ├── LimitUnreadable         a limit of requests is not written as one
     ├── RedisUnfit              limits cannot be shared by that address
     ├── AuthorityUnfit          an authority of certificates cannot do what was asked
     │    └── AuthorityExists    it, or a certificate of that name, is there already
     ├── AddressUnusable         the server cannot listen where it should
     └── ConsoleError            a command could not do its work
    """

    exit_code: int = EXIT_NO
    code: str = "failed"

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or (inspect.cleandoc(type(self).__doc__ or "").split("\n\n")[0],)))
