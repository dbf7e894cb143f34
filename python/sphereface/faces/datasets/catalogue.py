"""What ``sphereface get`` knows: places, hashes and licences."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CATALOGUE", "RemoteFile", "RemoteSet"]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file and where it can be had.

    Parameters
    ----------
    name : str
        Its name here.
    urls : tuple of str
        Mirrors, tried in this order.
    sha256 : str
        Empty where nobody has published it; it is told after the download then.
    unpack : bool
        Whether it is a tar archive to unpack.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str = ""
    unpack: bool = False


@dataclass(frozen=True, slots=True)
class RemoteSet:
    """Files that belong together.

    Parameters
    ----------
    name : str
    what : str
        For lists.
    licence : str
        What its owners allow, and whose it is.
    files : tuple of RemoteFile
    """

    name: str
    what: str
    licence: str
    files: tuple[RemoteFile, ...]


_FIGSHARE = "https://ndownloader.figshare.com/files"
_UMASS = "http://vis-www.cs.umass.edu/lfw"
_MTCNN = (
    "https://raw.githubusercontent.com/kpzhang93/MTCNN_face_detection_alignment/master/code/codes/"
    "MTCNNv1/model"
)
_DRIVE = "https://drive.google.com/uc?export=download&id="

_LFW_LICENCE = (
    "photographs from the news, for research (Huang et al. 2007, http://vis-www.cs.umass.edu/lfw)"
)
_SPHEREFACE_LICENCE = "MIT, by the authors of SphereFace (https://github.com/wy1iu/sphereface)"


def _lfw(archive: RemoteFile) -> tuple[RemoteFile, ...]:
    # Mirrors and hashes are scikit-learn's; the second mirror is the data set's own page.
    texts = {
        "pairs.txt": ("6006", "ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592"),
        "pairsDevTrain.txt": (
            "6012",
            "1d454dada7dfeca0e7eab6f65dc4e97a6312d44cf142207be28d688be92aabfa",
        ),
        "pairsDevTest.txt": (
            "6009",
            "7cb06600ea8b2814ac26e946201cdb304296262aad67d046a16a7ec85d0ff87c",
        ),
    }
    return (
        archive,
        *(
            RemoteFile(name, (f"{_FIGSHARE}/597{number}", f"{_UMASS}/{name}"), sha256)
            for name, (number, sha256) in texts.items()
        ),
    )


CATALOGUE = {
    entry.name: entry
    for entry in (
        RemoteSet(
            "lfw",
            "Labeled Faces in the Wild as it was photographed, and its pairs; 180 MB",
            _LFW_LICENCE,
            _lfw(
                RemoteFile(
                    "lfw.tgz",
                    (f"{_FIGSHARE}/5976018", f"{_UMASS}/lfw.tgz"),
                    "055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
                    unpack=True,
                )
            ),
        ),
        RemoteSet(
            "lfw-funneled",
            "the same photographs, funneled; 233 MB",
            _LFW_LICENCE,
            _lfw(
                RemoteFile(
                    "lfw-funneled.tgz",
                    (f"{_FIGSHARE}/5976015", f"{_UMASS}/lfw-funneled.tgz"),
                    "b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
                    unpack=True,
                )
            ),
        ),
        RemoteSet(
            "mtcnn",
            "P-Net, R-Net and O-Net of MTCNN, which `detect` looks for here; 2 MB",
            "MIT, by the authors of MTCNN (Zhang et al. 2016)",
            tuple(
                RemoteFile(f"{name}.caffemodel", (f"{_MTCNN}/{name}.caffemodel",), sha256)
                for name, sha256 in (
                    ("det1", "d6085e7f48ba7e6b6f1b58964595f6bce5b97bcc4866751f7b4bdc98f920c096"),
                    ("det2", "39b20f7a57bb8176cc9466cea4dfd52da6a6f876de60c7ab222a309f2d0ca08c"),
                    ("det3", "9d6098829a4d6d318f37cec42142465637fafe4c673f2e93b69495bf7ca23d2d"),
                )
            ),
        ),
        RemoteSet(
            "sphereface20",
            "SphereFace-20 trained on CASIA-WebFace, 99.30 % on LFW, as released",
            _SPHEREFACE_LICENCE,
            (RemoteFile("sphereface_model", (f"{_DRIVE}0B_geeR2lTMegb2F6dmlmOXhWaVk",)),),
        ),
        RemoteSet(
            "sphereface20-lfw-features",
            "that model's features of LFW's pairs, pairs.mat",
            _SPHEREFACE_LICENCE,
            (RemoteFile("pairs.mat", (f"{_DRIVE}0B_geeR2lTMegenU0cGJYZmlRUlU",)),),
        ),
    )
}
