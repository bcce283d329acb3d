"""What devices and a gateway say over HTTP beside the records themselves.

`device_protocol`: names of headers, and their forms. `signing`: requests that a device has signed. `openapi`: the
protocol for programs.
`docs/device-protocol.md` tells the whole protocol.
"""
