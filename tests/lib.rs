//! Nothing lives here: the tests are the targets beside this file.
