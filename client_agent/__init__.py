"""The device: trains on its own data and sees nothing but Kafka."""
