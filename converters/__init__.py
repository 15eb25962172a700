"""Ways in and out of a `Network`: Keras and flatbuffer models, flatbuffers and C headers."""
