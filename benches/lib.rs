//! Benchmarks; see `docs/performance.md` for the method.
