"""RT-DETR with SHSA, in a package whose public paths follow the `ultralytics` interface.

Independent implementation; not affiliated with Ultralytics. Importing it has no effects and does not import torch.
"""

__version__ = "0.1.0"
