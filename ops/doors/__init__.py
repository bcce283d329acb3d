"""The log's own doors: who gets in at the brokers, and what for. May import settings of ours, but no console.

`authority`: certificates of our own, for gateway, server and secure broker; run by `fedlog ca`.
"""
