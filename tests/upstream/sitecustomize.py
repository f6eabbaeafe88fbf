# Copyright 2026 The fila authors.
# Licensed under the Apache License, Version 2.0.
"""Lets a torchvision built for CUDA be imported beside a CPU build of torch. For tests only.

That torchvision cannot load its compiled library there, so the operators `nms` and `qnms` do not exist when its Python
files register fake versions of them, and the import fails. Declaring the two schemas first is enough for transforms,
models and transformers' image processors; the compiled operators themselves still raise when they are called.

Python imports this file by itself in every process whose path has its folder, so worker processes are repaired too;
torch is imported only when somebody imports torchvision.
"""

import importlib.abc
import sys


class _DeclareSchemas(importlib.abc.MetaPathFinder):
    """Declares the schemas just before torchvision is looked up for the first time; finds nothing itself."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                library = torch.library.Library("torchvision", "DEF")
                library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                self.library = library  # the schemas live as long as this object
                sys.modules["_torchvision_schemas"] = library
        return


sys.meta_path.insert(0, _DeclareSchemas())
