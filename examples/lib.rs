//! Programs that show how to use Tidelog; each is a page that runs.
