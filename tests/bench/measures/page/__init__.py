"""Children of the bench's row `page`: a browser that paints, and a hundred open pages."""

CHROMIUM = "/usr/bin/chromium"
