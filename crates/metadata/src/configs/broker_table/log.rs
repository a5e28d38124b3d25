//! Log directories, retention, segments, cleaning, and the defaults of topic configs.

use crate::configs::def::{ConfigDef, DURABILITIES, boolean, double, int, list, long, string};

#[rustfmt::skip]
pub(crate) static LOG: &[ConfigDef] = &[
    string("tidelog.durability").default("fsync").one_of(DURABILITIES).cluster_wide()
        .doc("What an acknowledgement means: `fsync`, flushed to the disk; `page-cache`, handed to the operating system; `memory`, never flushed."),
    list("log.dir").default("/tmp/kafka-logs")
        .doc("The log directory, or several separated by commas; `log.dirs` goes before it."),
    list("log.dirs")
        .doc("The log directories, separated by commas."),
    list("cordoned.log.dirs").default("").per_broker()
        .doc("Log directories that get no new partitions; `*` for all (KIP-1066)."),
    long("log.dir.failure.timeout.ms").default("30000").at_least(1)
        .doc("A broker whose failed directory the controller has not learned of for this long stops."),
    int("num.recovery.threads.per.data.dir").default("2").at_least(1).cluster_wide()
        .doc("Logs of one directory that are recovered at the same time."),
    int("log.retention.hours").default("168")
        .doc("Hours that records are kept; -1 for ever. `log.retention.minutes` and `log.retention.ms` go before it."),
    int("log.retention.minutes")
        .doc("Minutes that records are kept; -1 for ever. `log.retention.ms` goes before it."),
    long("log.retention.ms").cluster_wide()
        .doc("Milliseconds that records are kept; -1 for ever."),
    long("log.retention.bytes").default("-1").cluster_wide()
        .doc("Size of a partition above which its oldest segments are deleted; -1 for no bound."),
    long("log.retention.check.interval.ms").default("300000").at_least(1)
        .doc("How often the broker looks for segments to delete."),
    int("log.segment.bytes").default("1073741824").at_least(1048576).cluster_wide()
        .doc("Size of a segment, in bytes."),
    int("log.roll.hours").default("168").at_least(1)
        .doc("Hours after which a segment is rolled. `log.roll.ms` goes before it."),
    long("log.roll.ms").cluster_wide()
        .doc("Milliseconds after which a segment is rolled."),
    int("log.roll.jitter.hours").default("0").at_least(0)
        .doc("Hours by which rolling may come earlier, at random. `log.roll.jitter.ms` goes before it."),
    long("log.roll.jitter.ms").cluster_wide()
        .doc("Milliseconds by which rolling may come earlier, at random."),
    list("log.cleanup.policy").default("delete").one_of(&["compact", "delete"]).cluster_wide()
        .doc("What becomes of old records: `delete`, `compact`, both, or nothing at all."),
    int("log.index.size.max.bytes").default("10485760").at_least(4).cluster_wide()
        .doc("Size of an offset index, in bytes."),
    int("log.index.interval.bytes").default("4096").at_least(0).cluster_wide()
        .doc("Bytes of records between two entries of an offset index."),
    long("log.segment.delete.delay.ms").default("60000").at_least(0).cluster_wide()
        .doc("How long the files of a deleted segment stay on disk."),
    long("log.flush.interval.messages").default("9223372036854775807").at_least(1).cluster_wide()
        .doc("Records after which a log is flushed, beside what `tidelog.durability` demands."),
    long("log.flush.interval.ms").cluster_wide()
        .doc("Milliseconds after which a log is flushed, beside what `tidelog.durability` demands."),
    long("log.flush.scheduler.interval.ms").default("9223372036854775807")
        .doc("How often the broker looks for logs to flush."),
    int("log.flush.offset.checkpoint.interval.ms").default("60000").at_least(0)
        .doc("How often recovery points are written to disk."),
    int("log.flush.start.offset.checkpoint.interval.ms").default("60000").at_least(0)
        .doc("How often log start offsets are written to disk."),
    boolean("log.cleaner.enable").default("true")
        .doc("Compact logs whose policy says so; only `true` makes sense."),
    int("log.cleaner.threads").default("1").at_least(0).cluster_wide()
        .doc("Logs that are compacted at the same time."),
    long("log.cleaner.dedupe.buffer.size").default("134217728").cluster_wide()
        .doc("Memory for the keys of logs under compaction, in bytes."),
    int("log.cleaner.io.buffer.size").default("524288").at_least(0).cluster_wide()
        .doc("Memory for reading and writing during compaction, in bytes."),
    double("log.cleaner.io.buffer.load.factor").default("0.9").cluster_wide()
        .doc("How full the memory for keys may get."),
    double("log.cleaner.io.max.bytes.per.second").default("1.7976931348623157E308").cluster_wide()
        .doc("Bytes per second that compaction reads and writes."),
    long("log.cleaner.backoff.ms").default("15000").at_least(0).cluster_wide()
        .doc("Wait before the broker looks again for a log to compact."),
    double("log.cleaner.min.cleanable.ratio").default("0.5").between(0, 1).cluster_wide()
        .doc("Share of a log that must be uncompacted before it is compacted."),
    long("log.cleaner.delete.retention.ms").default("86400000").at_least(0).cluster_wide()
        .doc("How long tombstones stay in a compacted log."),
    long("log.cleaner.min.compaction.lag.ms").default("0").at_least(0).cluster_wide()
        .doc("Youngest age at which a record may be compacted."),
    long("log.cleaner.max.compaction.lag.ms").default("9223372036854775807").at_least(1).cluster_wide()
        .doc("Age at which a record must be compacted."),
    string("log.message.timestamp.type").default("CreateTime").one_of(&["CreateTime", "LogAppendTime"]).cluster_wide()
        .doc("Whether records keep the producer's time (`CreateTime`) or get the broker's (`LogAppendTime`)."),
    long("log.message.timestamp.before.max.ms").default("9223372036854775807").at_least(0).cluster_wide()
        .doc("How much older than the broker's clock a record's timestamp may be."),
    long("log.message.timestamp.after.max.ms").default("3600000").at_least(0).cluster_wide()
        .doc("How much ahead of the broker's clock a record's timestamp may be."),
    boolean("log.preallocate").default("false").cluster_wide()
        .doc("Reserve the whole space of a segment when it is created."),
    long("log.local.retention.ms").default("-2").at_least(-2).cluster_wide()
        .doc("How long tiered segments are kept on local disk; -2 as long as the retention says."),
    long("log.local.retention.bytes").default("-2").at_least(-2).cluster_wide()
        .doc("Size of the local part of a tiered partition; -2 for what the retention says."),
    int("message.max.bytes").default("1048588").at_least(0).cluster_wide()
        .doc("Largest record batch, as sent, in bytes."),
    string("compression.type").default("producer").one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]).cluster_wide()
        .doc("How batches are stored: a codec, `uncompressed`, or `producer` for as they come."),
    int("compression.gzip.level").default("-1").gzip_level().cluster_wide()
        .doc("Level of gzip when the broker compresses; -1 for the codec's own choice."),
    int("compression.lz4.level").default("9").between(1, 17).cluster_wide()
        .doc("Level of lz4 when the broker compresses."),
    int("compression.zstd.level").default("3").between(-131072, 22).cluster_wide()
        .doc("Level of zstd when the broker compresses."),
    int("producer.id.expiration.ms").default("86400000").at_least(1).cluster_wide()
        .doc("State of an idempotent producer that was silent for this long is forgotten."),
    boolean("follower.fetch.last.tiered.offset.enable").default("false").cluster_wide()
        .doc("A new follower of a tiered partition starts behind what is tiered (KIP-1023)."),
];
