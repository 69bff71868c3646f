"""The door to elastix: rigid, affine and B-spline stages between two grey pictures.

One thread and a fixed seed: the same input gives the same bytes. Nothing is logged and no file is
written. The import costs seconds of CPU, so it waits until pictures are registered; the wrapped
classes are imported one by one, because `import itk` and its templates load ten times as much.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from training.extraction.config_registration import RegistrationConfig
from training.extraction.starting import Picture
from training.extraction.transform import IDENTITY, Spline, Transform

COARSEST_PX = 96
"""The first resolution is the one whose longer side is about this."""


class ElastixError(Exception):
    """Elastix gave up."""


def refine(
    fixed: Picture, moving: Picture, start: np.ndarray, *, config: RegistrationConfig
) -> Transform:
    """Refine a rigid start; the moving picture is framed by it, not resampled.

    Raises:
        ElastixError: The pictures hardly overlap, or are not images of one tissue.
    """
    itk = _itk()
    stages = itk.parameters.elastixParameterObject.New()
    for settings in _stages(fixed, config):
        stages.AddParameterMap(settings)
    method = itk.method.itkElastixRegistrationMethodIF2IF2.New()
    matrix = np.linalg.inv(start[:, :2])
    method.SetFixedImage(_image(fixed.grey, fixed.um_per_px, IDENTITY))
    method.SetMovingImage(
        _image(moving.grey, moving.um_per_px, np.column_stack([matrix, -matrix @ start[:, 2]]))
    )
    method.SetFixedMask(_image(fixed.inside.astype(np.uint8), fixed.um_per_px, IDENTITY))
    method.SetParameterObject(stages)
    method.SetLogToConsole(False)
    method.SetLogToFile(False)
    method.SetNumberOfThreads(1)
    try:
        method.UpdateLargestPossibleRegion()
    except RuntimeError as error:
        raise ElastixError("the pictures share too little to be brought together") from error
    found = method.GetTransformParameterObject()
    maps = [found.GetParameterMap(each) for each in range(found.GetNumberOfParameterMaps())]
    return _read(start, maps)


class _Itk(NamedTuple):
    parameters: Any
    method: Any
    buffers: Any


def _itk() -> _Itk:
    with warnings.catch_warnings():  # raised inside SWIG's modules, a warning ends the process
        warnings.simplefilter("ignore", DeprecationWarning)
        from itk import (
            elxParameterObjectPython,
            itkElastixRegistrationMethodPython,
            itkPyBufferPython,
        )
    return _Itk(elxParameterObjectPython, itkElastixRegistrationMethodPython, itkPyBufferPython)


def _stages(fixed: Picture, config: RegistrationConfig) -> list[dict[str, tuple[str, ...]]]:
    levels = 1 + max(0, round(math.log2(max(fixed.grey.shape) / COARSEST_PX)))
    common: dict[str, object] = {
        "AutomaticParameterEstimation": "true",
        "AutomaticScalesEstimation": "true",
        "AutomaticTransformInitialization": "false",
        "CheckNumberOfSamples": "true",
        "ErodeMask": "false",
        "FixedImagePyramid": "FixedSmoothingImagePyramid",
        "HowToCombineTransforms": "Compose",
        "ImageSampler": "RandomCoordinate",
        "Interpolator": "LinearInterpolator",
        "MaximumNumberOfIterations": config.iterations,
        "MaximumNumberOfSamplingAttempts": 8,
        "Metric": "AdvancedMattesMutualInformation",
        "MovingImagePyramid": "MovingSmoothingImagePyramid",
        "NewSamplesEveryIteration": "true",
        "NumberOfHistogramBins": 32,
        "NumberOfSpatialSamples": 4096,
        "Optimizer": "AdaptiveStochasticGradientDescent",
        "RandomSeed": config.seed,
        "Registration": "MultiResolutionRegistration",
        "ResampleInterpolator": "FinalLinearInterpolator",
        "Resampler": "DefaultResampler",
        "UseDirectionCosines": "true",
        "WriteResultImage": "false",
    }
    stages = [
        {**common, "Transform": "EulerTransform", "NumberOfResolutions": levels},
        {**common, "Transform": "AffineTransform", "NumberOfResolutions": min(levels, 3)},
    ]
    if config.bspline_fields is not None:
        rows, columns = np.nonzero(fixed.inside)
        extent = max(np.ptp(columns) * fixed.um_per_px[0], np.ptp(rows) * fixed.um_per_px[1])
        stages.append(
            {
                **common,
                "Transform": "BSplineTransform",
                "NumberOfResolutions": min(levels, 2),
                "FinalGridSpacingInPhysicalUnits": float(extent) / config.bspline_fields,
            }
        )
    return [{name: (str(value),) for name, value in stage.items()} for stage in stages]


def _image(values: np.ndarray, um_per_px: tuple[float, float], frame: np.ndarray) -> Any:
    """Make an ITK image whose pixels lie at `frame` of their micrometres."""
    buffers = {np.dtype(np.float32): "IF2", np.dtype(np.uint8): "IUC2"}
    buffer = getattr(_itk().buffers, f"itkPyBuffer{buffers[values.dtype]}")
    image = buffer.GetImageFromArray(np.ascontiguousarray(values))
    image.SetSpacing([float(each) for each in um_per_px])
    origin = frame[:, :2] @ (np.array(um_per_px) / 2) + frame[:, 2]
    image.SetOrigin([float(each) for each in origin])
    kind = type(image.GetDirection())
    direction = kind().GetVnlMatrix()
    for row in range(2):
        for column in range(2):
            direction.put(row, column, float(frame[row, column]))
    image.SetDirection(kind(direction))
    return image


def _read(start: np.ndarray, maps: list[Mapping[str, tuple[str, ...]]]) -> Transform:
    """Compose the stages' parameters."""
    affine, spline = np.vstack([IDENTITY, [0.0, 0.0, 1.0]]), None
    for stage in maps:
        values = np.array([float(each) for each in stage["TransformParameters"]])
        if stage["Transform"][0] == "BSplineTransform":
            columns, rows = (int(each) for each in stage["GridSize"])
            spline = Spline(
                origin=_pair(stage["GridOrigin"]),
                spacing=_pair(stage["GridSpacing"]),
                coefficients=values.reshape(2, rows, columns),
            )
            continue
        if stage["Transform"][0] == "EulerTransform":
            cos, sin = math.cos(values[0]), math.sin(values[0])
            matrix, shift = np.array([[cos, -sin], [sin, cos]]), values[1:]
        else:
            matrix, shift = values[:4].reshape(2, 2), values[4:]
        centre = np.array(_pair(stage["CenterOfRotationPoint"]))
        whole = np.column_stack([matrix, shift + centre - matrix @ centre])
        affine = np.vstack([whole @ affine, [0.0, 0.0, 1.0]])
    return Transform(start=start, affine=affine[:2], spline=spline)


def _pair(values: tuple[str, ...]) -> tuple[float, float]:
    return float(values[0]), float(values[1])
