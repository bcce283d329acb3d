"""The server: pure deciders and the one actor that runs them."""
