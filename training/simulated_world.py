r"""The generative model behind `training.simulate`: tissue, encoders, scanners, as arrays.

Every draw comes from its own generator, derived from (seed, name): a further slide, scanner or
encoder moves no other number. Arithmetic is float64. Not modelled: pixels, registration error.

**Tissue.** Tile $t$ of slide $i$ of patient $p$, on a square grid, with latent state

    z_t = m_{k(t)} + a_p + b_i + e_t + signal · y_t · w_c,    e_t ~ N(0, I)

tissue type $k(t) \sim \pi_i$ with $\pi_i \sim$ Dirichlet(1); type means $m$, patient effects $a$
and slide effects $b$ Gaussian with `tissue_spread`, `patient_spread`, `slide_spread`; $w_c$ a
random unit vector per class above 0. $y_t = 1$ on the label-bearing tiles: none in class 0, else
the $\max(1, \mathrm{round}(n g))$ tiles nearest to a random one of the $n$, where
$g \sim$ Uniform(½, 1½) · `bearing_share`.

**Encoder** $e$, without scanner; $\bar z$ is $z$ over its background SD, all matrices Gaussian:

    x_t = (W_e z̄_t + U_e tanh(V_e z̄_t)) / √1.4

**Scanner** $s$ has traits $u_s$, a random direction of length $\sqrt q$ in $q$ = `trait_dim`
dimensions, the same for all encoders. With orthonormal $E_e$ [dim, q] the stored embedding is

    x'_t = x_t + r_e ( offset    · √(dim/q) E_e u_s
                     + mixing    · (Σ_j u_sj G_ej / √q) x_t
                     + nonlinear · P_e ((C_e u_s / √q) ⊙ tanh(2 Q_e x_t) / 0.8)
                     + noise     · 1.7 sigmoid(2 d_es · x_t) ε_t ),    ε_t ~ N(0, I) per scan

where $r_e$ is the encoder's `scanner_effect`, and $d_{es}$ is random, linear in $u_s$: other tiles
are noisy on other scanners. The columns of $E_e$ span the true scanner subspace (of the offset).

**Augmented view.** Traits of its own, drawn like a scanner's, and of the equation above the offset
and the mixing alone, both times `augmented_strength`: style augmentation that knows the kind of
shift, but no scanner.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from training.simulation_config import Simulation

TILE_PX = 448
"""Side of a tile in level-0 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tissue:
    """What is on the glass; the position of a tile in these arrays is its tile number."""

    latent: Float[np.ndarray, "tile latent"]
    bearing: Bool[np.ndarray, "tile"]
    coords: Int[np.ndarray, "tile 2"]


def draw_tissue(config: Simulation, *, patient: str, slide: str, label: int) -> Tissue:
    """Draw the latent tissue of a slide of a patient of this class."""
    rng = generator(config, f"tissue/{slide}")
    num = int(rng.integers(config.min_tiles, config.max_tiles + 1))
    side = int(np.ceil(np.sqrt(num)))
    places = np.stack(np.divmod(np.sort(rng.permutation(side * side)[:num]), side), axis=1)
    types = rng.choice(config.num_tissues, size=num, p=rng.dirichlet(np.ones(config.num_tissues)))
    latent = rng.standard_normal((num, config.latent_dim))
    latent += config.tissue_spread * _effect(config, "types", config.num_tissues)[types]
    latent += config.patient_spread * _effect(config, f"patient/{patient}", 1)
    latent += config.slide_spread * _effect(config, f"slide/{slide}", 1)
    bearing = np.zeros(num, dtype=bool)
    if label > 0:
        share = config.bearing_share * rng.uniform(0.5, 1.5)
        distance = np.square(places - places[rng.integers(num)]).sum(axis=1)
        bearing[np.argsort(distance, kind="stable")[: max(1, round(num * share))]] = True
        direction = _effect(config, f"signal/{label}", 1)
        latent[bearing] += config.signal * direction / np.linalg.norm(direction)
    return Tissue(latent=latent, bearing=bearing, coords=(places * TILE_PX).astype(np.int32))


def traits(config: Simulation, scanner: str) -> Float[np.ndarray, "trait"]:
    """Give the traits $u_s$ of a scanner."""
    return _direction(generator(config, f"scanner/{scanner}"), config.trait_dim)


def style(config: Simulation, view: str) -> Float[np.ndarray, "trait"]:
    """Draw the traits of an augmented view's style, distributed as those of scanners."""
    return _direction(generator(config, f"style/{view}"), config.trait_dim)


def _direction(rng: np.random.Generator, dim: int) -> Float[np.ndarray, "trait"]:
    drawn = rng.standard_normal(dim)
    return np.asarray(drawn * np.sqrt(dim) / np.linalg.norm(drawn))


def generator(config: Simulation, name: str) -> np.random.Generator:
    """Make the generator of one use, named so that no two uses share it."""
    digest = hashlib.sha256(f"{config.seed}/{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


class Encoder:
    """A named encoder: its random maps, drawn once.

    Args:
        config: the world.
        name: one of `config.encoders`.
    """

    def __init__(self, config: Simulation, name: str) -> None:
        own = config.encoders[name]
        latent, dim, num_traits = config.latent_dim, own.dim, config.trait_dim

        def draw(use: str, *shape: int, fan_in: int) -> Float[np.ndarray, "..."]:
            rng = generator(config, f"encoder/{name}/{use}")
            return np.asarray(rng.standard_normal(shape) / np.sqrt(fan_in))

        self.config, self.name, self.dim, self.effect = config, name, dim, own.scanner_effect
        self.linear = draw("W", dim, latent, fan_in=latent)
        self.outer = draw("U", dim, dim, fan_in=dim)
        self.inner = draw("V", dim, latent, fan_in=latent)
        self.subspace = np.linalg.qr(draw("E", dim, num_traits, fan_in=1))[0]
        self.mixing = draw("G", num_traits, dim, dim, fan_in=dim * num_traits)
        self.warp_in = draw("Q", dim, dim, fan_in=dim)
        self.warp_gain = draw("C", dim, num_traits, fan_in=num_traits)
        self.warp_out = draw("P", dim, dim, fan_in=dim)
        self.noisy = draw("d", dim, num_traits, fan_in=dim * num_traits)

    def clean(self, latent: Float[np.ndarray, "tile latent"]) -> Float[np.ndarray, "tile dim"]:
        """Embed tissue as without a scanner: the oracle's view."""
        c = self.config
        spread = np.sqrt(1 + c.tissue_spread**2 + c.patient_spread**2 + c.slide_spread**2)
        scaled = latent / spread
        warped = np.tanh(scaled @ self.inner.T) @ self.outer.T
        return np.asarray((scaled @ self.linear.T + warped) / np.sqrt(1.4))

    def offset(self, scanner: Float[np.ndarray, "trait"]) -> Float[np.ndarray, "dim"]:
        """Move all tiles of a scanner by this."""
        length = self.config.shift.offset * np.sqrt(self.dim / scanner.size)
        return np.asarray(self.effect * length * (self.subspace @ scanner))

    def shifted(
        self,
        clean: Float[np.ndarray, "tile dim"],
        *,
        scanner: Float[np.ndarray, "trait"],
        rng: np.random.Generator,
    ) -> Float[np.ndarray, "tile dim"]:
        """Embed the same tiles as seen through a scanner; `rng` draws the noise."""
        shift = self.config.shift
        mixed = clean @ np.tensordot(scanner, self.mixing, axes=1).T
        gain = self.warp_gain @ scanner / 0.8
        warped = (gain * np.tanh(2 * clean @ self.warp_in.T)) @ self.warp_out.T
        size = 1.7 / (1 + np.exp(-2 * clean @ (self.noisy @ scanner)))
        noise = size[:, None] * rng.standard_normal(clean.shape)
        parts = shift.mixing * mixed + shift.nonlinear * warped + shift.noise * noise
        return np.asarray(clean + self.offset(scanner) + self.effect * parts)

    def restyled(
        self, clean: Float[np.ndarray, "tile dim"], *, style: Float[np.ndarray, "trait"]
    ) -> Float[np.ndarray, "tile dim"]:
        """Embed the same tiles in a made-up style: offset and mixing, without warp and noise."""
        strength, shift = self.config.augmented_strength, self.config.shift
        mixed = clean @ np.tensordot(style, self.mixing, axes=1).T
        return np.asarray(
            clean + strength * (self.offset(style) + self.effect * shift.mixing * mixed)
        )


def _effect(config: Simulation, name: str, rows: int) -> Float[np.ndarray, "row latent"]:
    return generator(config, name).standard_normal((rows, config.latent_dim))
