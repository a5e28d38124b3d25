//! A commit log in Kafka's file formats: segments, indexes, recovery, retention, group commit
