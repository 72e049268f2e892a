"""Published convolution blocks, one kin a module; importing this package registers all of them."""
from ultralytics.nn.modules.convolutions.receptive_field import *
from ultralytics.nn.modules.convolutions.deformable_conv import *
from ultralytics.nn.modules.convolutions.snake import *
from ultralytics.nn.modules.convolutions.wavelet_conv import *
from ultralytics.nn.modules.convolutions.glu import *
from ultralytics.nn.modules.convolutions.faster import *
from ultralytics.nn.modules.convolutions.dwr import *
from ultralytics.nn.modules.convolutions.irmb import *
from ultralytics.nn.modules.convolutions.pki import *
from ultralytics.nn.modules.convolutions.star import *
from ultralytics.nn.modules.convolutions.diverse_branch import *
from ultralytics.nn.modules.convolutions.dilated_reparam import *
from ultralytics.nn.modules.convolutions.difference_conv import *
from ultralytics.nn.modules.convolutions.aggregation import *
