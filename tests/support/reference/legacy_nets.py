"""What is known of the nets in tests/caffe/legacy: published sizes, or their arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log

BOTH = ("TRAIN", "TEST")
TRAIN = ("TRAIN",)


@dataclass(frozen=True)
class Legacy:
    """What is known of a net.

    Attributes
    ----------
    phases : tuple of str
        Those that the file has data for.
    parameters : int
        Values in all parameter blobs, shared ones once.
    shapes : dict
        Blob to shape without the batch, at the published input sizes.
    inputs : dict
        Input to its published shape, where the file does not tell it.
    small : dict
        Inputs of the run, smaller where the net allows it.
    loss : tuple of float, optional
        Loss at random initialisation and how far it may be off, both net-wide.
    still : tuple of str
        Patterns of the blobs whose gradient is zero at first, but for rounding and for the eps of
        batch norms (which take away a factor of each channel and a bias).
    stages : tuple of str
        Of the TEST phase.
    """

    phases: tuple[str, ...]
    parameters: int
    shapes: dict[str, tuple[int, ...]]
    small: dict[str, tuple[int, ...]]
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    loss: tuple[float, float] | None = None
    still: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()


def conv(n: int, c: int, k: int) -> int:
    """Parameters of n filters of c channels with their biases."""
    return n * c * k * k + n


def bn(*channels: int) -> int:
    """Parameters of batch norms (mean, variance, factor) each with a Scale."""
    return sum(4 * n + 1 for n in channels)


IMAGENET = {"data": (32, 3, 227, 227)}
SMALL_227 = {"data": (2, 3, 67, 67), "label": (2,)}  # pool5 is one pixel
ALEXNET = 60_965_224
ALEXNET_SHAPES = {
    "conv1": (96, 55, 55),
    "conv2": (256, 27, 27),
    "conv3": (384, 13, 13),
    "pool5": (256, 6, 6),
    "fc7": (4096,),
}
LENET_SHAPES = {"conv1": (20, 24, 24), "pool2": (50, 4, 4), "ip2": (10,)}
MNIST = {"data": (64, 1, 28, 28)}
CIFAR = {"data": (100, 3, 32, 32)}
CIFAR_SMALL = {"data": (8, 3, 32, 32), "label": (8,)}
CIFAR_SHAPES = {"pool1": (32, 16, 16), "pool2": (32, 8, 8), "pool3": (64, 4, 4)}
PAIRS = {"pair_data": (64, 2, 28, 28)}
FACES = {"data": (256, 3, 112, 96)}
FACES_SMALL = {"data": (3, 3, 48, 32), "label": (3,)}
SPHERE4 = 12_562_496
SPHERE4_SHAPES = {"conv1_1": (64, 56, 48), "conv4_1": (512, 7, 6), "fc5": (512,)}
LSTM_1000 = 4 * 1000 * (1000 + 1 + 1000)
MOBILE = [(32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
MOBILE += [(512, 512)]  # depthwise channels, pointwise outputs
WIDE = [(64, 128), (128, 256), (256, 512)]  # of the 27 layers of the centre loss paper

NETS = {
    "alexnet_train_val": Legacy(
        BOTH, ALEXNET, {**ALEXNET_SHAPES, "norm1": (96, 55, 55), "fc8": (1000,)}, SMALL_227,
        IMAGENET, (log(1000), 0.3),
    ),
    "alexnet_deploy": Legacy(
        BOTH, ALEXNET, {**ALEXNET_SHAPES, "prob": (1000,)}, {"data": (1, 3, 67, 67)}
    ),
    "caffenet_train_val": Legacy(
        BOTH, ALEXNET, {**ALEXNET_SHAPES, "norm1": (96, 27, 27)}, SMALL_227, IMAGENET,
        (log(1000), 1.5),
    ),
    "caffenet_v1_train_val": Legacy(
        BOTH, ALEXNET, ALEXNET_SHAPES, SMALL_227, IMAGENET, (log(1000), 1.5)
    ),
    "caffenet_v1_deploy": Legacy(
        BOTH, ALEXNET, {**ALEXNET_SHAPES, "prob": (1000,)}, {"data": (1, 3, 67, 67)}
    ),
    "caffenet_v0_train": Legacy(
        BOTH, ALEXNET, {**ALEXNET_SHAPES, "norm1": (96, 27, 27)}, SMALL_227, IMAGENET,
        (log(1000), 1.5),
    ),
    "caffenet_full_conv": Legacy(
        BOTH, ALEXNET, {"fc6-conv": (4096, 8, 8), "prob": (1000, 8, 8)}, {"data": (1, 3, 227, 227)}
    ),
    "rcnn_deploy": Legacy(
        BOTH, ALEXNET - 1000 * 4097 + 200 * 4097, {**ALEXNET_SHAPES, "fc-rcnn": (200,)},
        {"data": (1, 3, 67, 67)},
    ),
    "finetune_pascal_detection": Legacy(
        BOTH, ALEXNET - 1000 * 4097 + 21 * 4097, {**ALEXNET_SHAPES, "fc8_pascal": (21,)},
        SMALL_227, {"data": (128, 3, 227, 227)}, (log(21), 3),
    ),
    "googlenet_train_val": Legacy(
        BOTH, 13_378_280,
        {"pool2/3x3_s2": (192, 28, 28), "loss1/ave_pool": (512, 4, 4), "loss2/classifier": (1000,)},
        {"data": (1, 3, 224, 224), "label": (1,)}, {"data": (32, 3, 224, 224)},
        (1.6 * log(1000), 1.5),
    ),
    "googlenet_deploy": Legacy(
        BOTH, 6_998_552,
        {
            "inception_3a/output": (256, 28, 28),
            "inception_4e/output": (832, 14, 14),
            "inception_5b/output": (1024, 7, 7),
            "pool5/7x7_s1": (1024, 1, 1),
        },
        {"data": (1, 3, 224, 224)},
    ),
    "lenet_train_test": Legacy(
        BOTH, 431_080, LENET_SHAPES, {"data": (8, 1, 28, 28), "label": (8,)}, MNIST, (log(10), 1)
    ),
    "lenet_v1_train_test": Legacy(
        BOTH, 431_080, LENET_SHAPES, {"data": (8, 1, 28, 28), "label": (8,)}, MNIST, (log(10), 1)
    ),
    "lenet_deploy": Legacy(
        BOTH, 431_080, {**LENET_SHAPES, "prob": (10,)}, {"data": (2, 1, 28, 28)}
    ),
    "siamese_train_test": Legacy(
        BOTH, 431_080 + 22, {"data_p": (1, 28, 28), "ip2_p": (10,), "feat": (2,), "feat_p": (2,)},
        {"pair_data": (8, 2, 28, 28), "sim": (8,)}, PAIRS,
        still=("ip2.bias", "feat.bias"),  # they cancel in the difference
    ),
    "siamese_legacy_train_test": Legacy(
        BOTH, 431_080 + 22, {"feat": (2,)}, {"pair_data": (8, 2, 28, 28), "sim": (8,)}, PAIRS,
        still=("ip2.bias", "feat.bias"),
    ),
    "siamese_deploy": Legacy(BOTH, 431_080 + 22, {"feat": (2,)}, {"data": (3, 1, 28, 28)}),
    "mnist_autoencoder": Legacy(
        BOTH, 2_837_314,
        {"flatdata": (784,), "encode1neuron": (1000,), "encode4": (30,), "decode1neuron": (784,)},
        {"data": (8, 1, 28, 28)}, {"data": (100, 1, 28, 28)}, stages=("test-on-test",),
    ),
    "cifar10_quick_train_test": Legacy(
        BOTH, 145_578, {**CIFAR_SHAPES, "ip1": (64,)}, CIFAR_SMALL, CIFAR, (log(10), 0.2)
    ),
    "cifar10_full_train_test": Legacy(
        BOTH, 89_578, {**CIFAR_SHAPES, "norm1": (32, 16, 16)}, CIFAR_SMALL, CIFAR, (log(10), 0.1)
    ),
    "cifar10_full_sigmoid_bn": Legacy(
        BOTH, 89_578 - 32 - 32 - 64 + 2 * (32 + 32 + 64) + 3, CIFAR_SHAPES, CIFAR_SMALL, CIFAR,
        (log(10), 0.3),
    ),
    "hdf5_classification": Legacy(
        BOTH, 5 * 40 + 41 * 2, {"fc1": (40,), "fc2": (2,)}, {"data": (10, 4), "label": (10,)},
        {"data": (10, 4), "label": (10,)}, (log(2), 0.5),
    ),
    "fcn_alexnet_train": Legacy(
        TRAIN,
        # its fully connected layers are convolutions; the upsampling learns nothing
        ALEXNET - 1000 * 4097 + 21 * 4097 + 21 * 21 * 63 * 63,
        {"conv1": (96, 75, 83), "score_fr": (21, 4, 5), "upscore": (21, 159, 191)},
        {},
    ),
    "fcn_8s": Legacy(
        BOTH,
        sum(conv(n, c, 3) for n, c in [(4, 3), (4, 4), (8, 4), (8, 8), (16, 8), (16, 16), (16, 16)])
        + sum(conv(32, c, 3) for c in (16, 32, 32, 32, 32, 32))
        + conv(64, 32, 7) + conv(64, 64, 1)
        + conv(21, 64, 1) + conv(21, 32, 1) + conv(21, 16, 1)
        + 32 + 16 + 2 * 21 * 4 * 4 + 21 * 16 * 16,
        {
            "pool5": (32, 9, 10),
            "score_fr": (21, 3, 4),
            "score_pool4c": (21, 8, 10),
            "upscore_pool4": (21, 18, 22),
            "upscore8": (21, 152, 184),
            "score": (21, 64, 96),
        },
        {"data": (1, 3, 64, 96), "label": (1, 1, 64, 96)},
        loss=(64 * 96 * log(21), 1), still=("conv*", "fc*"),
    ),
    "lrcn_caption": Legacy(
        BOTH, 8801 * 1000 + LSTM_1000 + 4000 * 1000 + LSTM_1000 + conv(8801, 1000, 1),
        {"embedded_input_sentence": (100, 1000), "lstm1": (100, 1000), "predict": (100, 8801)},
        {"cont_sentence": (3, 2), "input_sentence": (3, 2), "target_sentence": (3, 2),
         "fc8": (2, 1000)},
        {"cont_sentence": (20, 100), "input_sentence": (20, 100), "target_sentence": (20, 100),
         "fc8": (100, 1000)},
        (20 * log(8801), 6),
    ),
    "lrcn_action_deploy": Legacy(
        BOTH, conv(96, 3, 7) + conv(32, 96, 5) + 4 * 256 * (32 + 1 + 256) + conv(101, 256, 1),
        {"pool2": (32, 1, 1), "reshape-data": (3, 32), "lstm1": (3, 256), "probs": (3, 101)},
        {"data": (32, 3, 59, 59), "clip_markers": (32,)},
    ),
    "resnet_50_deploy": Legacy(
        BOTH, 25_557_032 + 64 + 2 * 26_560 + 53,  # as torchvision counts; bias of conv1, statistics
        {
            "pool1": (64, 56, 56),
            "res2c": (256, 56, 56),
            "res3d": (512, 28, 28),
            "res4f": (1024, 14, 14),
            "pool5": (2048, 1, 1),
        },
        {"data": (1, 3, 195, 195)},
    ),
    "resnet_20_cifar10": Legacy(
        BOTH, 272_474 + 2 * 784 + 21,
        {"group0_block2_sum": (16, 28, 28), "group2_block2_sum": (64, 7, 7)},
        {"data": (8, 3, 28, 28), "label": (8,)}, {"data": (128, 3, 28, 28)}, (log(10), 1.5),
    ),
    "squeezenet_train_val": Legacy(
        BOTH, 1_248_424,
        {
            "conv1": (96, 111, 111),
            "fire4/concat": (256, 55, 55),
            "fire8/concat": (512, 27, 27),
            "conv10": (1000, 15, 15),
            "pool10": (1000, 1, 1),
        },
        {"data": (1, 3, 67, 67), "label": (1,)}, IMAGENET, (log(1000), 0.3),
    ),
    "nin_imagenet_v1": Legacy(
        BOTH, 7_595_176,
        {"cccp2": (96, 54, 54), "cccp4": (256, 27, 27), "cccp8-1024": (1000, 6, 6),
         "pool4": (1000, 1, 1)},
        {"data": (1, 3, 199, 199), "label": (1,)}, {"data": (64, 3, 224, 224)}, (log(1000), 1),
    ),
    "sphereface_plus_train": Legacy(
        TRAIN, SPHERE4 + 512 * 10572, {**SPHERE4_SHAPES, "fc6": (10572,)}, FACES_SMALL, FACES,
    ),
    "mobile_sphereface_train": Legacy(
        TRAIN,
        32 * 27 + sum(9 * c + c * n for c, n in MOBILE)
        + bn(32) + sum(bn(c, n) for c, n in MOBILE) + 32 + sum(c + n for c, n in MOBILE)
        + 512 * 42 * 128 + 128 + 128 * 10572,
        {"conv2_1/dw": (32, 56, 48), "conv3_2/sep": (256, 14, 12), "conv5_2/sep": (512, 7, 6)},
        FACES_SMALL, FACES, (log(10572), 2),
        still=("conv1/scale.weight", "conv[2-4]_?/sep/scale.weight", "conv5_1/sep/scale.weight"),
    ),
    "center_loss_train": Legacy(
        BOTH,
        conv(32, 3, 3) + conv(64, 32, 3)
        + sum(2 * units * conv(n, n, 3) for n, units in ((64, 1), (128, 2), (256, 5), (512, 3)))
        + sum(conv(n, c, 3) for c, n in WIDE)
        + 32 + 64 + 2 * 64 + 4 * 128 + 10 * 256 + 6 * 512 + 128 + 256 + 512  # PReLU
        + 512 * 5 * 4 * 512 + 512 + 2 * 512 * 10572,
        {"pool1b": (64, 54, 46), "res3_4": (128, 26, 22), "res5_6": (512, 5, 4)},
        {"data": (2, 3, 48, 48), "label": (2,)}, FACES, (log(10572), 2),
    ),
    "am_softmax_train": Legacy(
        BOTH, SPHERE4 + 512 * 10516 + 10516, {**SPHERE4_SHAPES, "fc6_margin": (10516,)},
        FACES_SMALL, FACES,
        # the margin, and half the variance 1 / 512 of the cosines, both scaled
        (log(10516) + 30 * 0.35 + 30**2 / 512 / 2, 3),
    ),
    "am_softmax_mirror_deploy": Legacy(
        BOTH, SPHERE4, {**SPHERE4_SHAPES, "fc5_flip": (512,), "norm1": (512,)},
        {"data": (2, 3, 48, 32)},
    ),
    "normface_train": Legacy(
        TRAIN, SPHERE4 + 512 * 10575 + 1, {**SPHERE4_SHAPES, "scale": (10575,)}, FACES_SMALL, FACES,
        (log(10575) + 20**2 / 512 / 2, 2),
    ),
    "normface_contrastive_train": Legacy(
        TRAIN, SPHERE4 + 512 * 10575, {"dist": (10575,), "fc5_norm": (1,)}, FACES_SMALL, FACES,
    ),
    "normface_channel_scale_train": Legacy(
        TRAIN, SPHERE4 + 512 * 10575, {**SPHERE4_SHAPES, "fc6": (10575,)}, FACES_SMALL, FACES,
        (log(10575), 2),
    ),
    "light_cnn_a_v1_deploy": Legacy(
        BOTH, conv(96, 1, 9) + conv(192, 48, 5) + conv(256, 96, 5) + conv(384, 128, 4)
        + conv(512, 192, 5),
        {"eltwise1": (48, 120, 120), "pool4": (192, 5, 5), "eltwise_fc1": (256,)},
        {"data": (1, 1, 64, 64)},
    ),
    "light_cnn_9_deploy": Legacy(
        BOTH, conv(96, 1, 5) + conv(96, 48, 1) + conv(192, 48, 3) + conv(192, 96, 1)
        + conv(384, 96, 3) + conv(384, 192, 1) + conv(256, 192, 3) + conv(256, 128, 1)
        + conv(256, 128, 3) + conv(512, 128, 8),
        {"pool1": (48, 64, 64), "pool4": (128, 8, 8), "eltwise_fc1": (256,)},
        {"data": (1, 1, 32, 32)},
    ),
    "l_softmax_cifar10": Legacy(
        BOTH,
        sum(conv(n, c, 3) + conv(n, n, 3) + 8 * n for c, n in ((3, 16), (16, 32), (32, 64)))
        + conv(256, 1024, 1) + 2560,
        {"pool0": (16, 16, 16), "pool2": (64, 4, 4), "fc1": (256,)}, CIFAR_SMALL, CIFAR,
        still=("conv?_?.bias",),
    ),
}  # fmt: skip
