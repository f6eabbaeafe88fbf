# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Every reason for which one of transformers' common tests may be skipped on our classes, and why it cannot apply.

A skip that matches no line fails the run. The pattern is searched in "<class>::<test>: <message of the skip>".
"""

SKIP_REASONS: dict[str, str] = {}
