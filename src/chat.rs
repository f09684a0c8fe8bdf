//! The `chat` room: the turn loop, model -> tools -> model, for every API, streaming or not.
