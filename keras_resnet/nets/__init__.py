"""From a spec to a Keras model: everything that `build` is made of."""
