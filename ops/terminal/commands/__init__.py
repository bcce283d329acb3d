"""One module a command, in folders by what people want: run a cluster, train, read what happened."""
