"""GRPO in one file: a language model learns to find the largest of three digits, from rewards alone. Needs only torch.

    python examples/grpo_one_file.py            # seconds on a laptop CPU

Group relative policy optimization (DeepSeekMath, arXiv:2402.03300) improves a model whose answers can be checked:

    1. draw a group of G completions for each of Q prompts;
    2. check them: rewards r_1 .. r_G within each group;
    3. compare each with its group (no critic): A_i = (r_i - mean r) / std r;
    4. raise the log-probability of every token of the better ones, lower it for the worse ones, in steps that stay near
       the policy that drew the tokens (the clip) and near the policy one started from (the KL).

The toy has what the real thing has: a pretrained model, completions of different lengths, a verifiable reward, a frozen
reference, several updates per batch of completions, held-out prompts. It leaves out what size asks for: prompts of
different lengths, a KV cache, micro-batches, checkpoints.

    prompt "382="    completions "8."  right     "38."  right (it ends with 8)     "83."  wrong     "8388"  wrong (no end)
"""

from __future__ import annotations

import argparse
import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VOCABULARY = "0123456789=."
END = VOCABULARY.index(".")
PROMPT = 4  # characters of a prompt: three digits and "="
LIMIT = 4  # tokens of a completion, at most

# --- the loss ----------------------------------------------------------------------------------------


def group_advantages(rewards: Tensor, groups: Tensor) -> Tensor:
    """[N] how much better each completion did than its group, in deviations: A_i = (r_i - mean r) / std r.

    The group's mean stands in for the value function of PPO: what this prompt is worth under this policy. The deviation is
    the sample one (G - 1), without an epsilon, so advantages do not depend on the scale of the rewards. A group whose
    rewards are all equal has no deviation and nothing to teach: its advantages are 0.

    Dividing by the deviation weighs very easy and very hard prompts more; Dr. GRPO (arXiv:2503.20783) leaves it out.
    """
    advantages = torch.zeros_like(rewards)
    for group in groups.unique():
        members = groups == group
        r = rewards[members]
        if r.max() > r.min():
            advantages[members] = (r - r.mean()) / r.std()
    return advantages


def grpo_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    ref_logprobs: Tensor,
    rewards: Tensor,
    mask: Tensor,
    groups: Tensor,
    clip: float = 0.2,
    kl_coef: float = 0.04,
) -> tuple[Tensor, dict[str, float]]:
    """What one update minimises, over N completions of at most T tokens.

        loss = 1/N sum_i 1/|y_i| sum_t [ -min(rho_t A_i, clip(rho_t, 1 - clip, 1 + clip) A_i) + kl_coef k3_t ]

    ``logprobs`` [N, T] are log pi(y_t | x, y_<t) under the policy that is trained, and carry the gradient; ``old_logprobs``
    under the policy that drew the tokens; ``ref_logprobs`` under the reference. ``rewards`` [N], ``mask`` [N, T] is True on
    the tokens of a completion, ``groups`` [N] says which completions share a prompt. Groups are whole: their mean is in here.
    """
    # The reward is for the whole completion, so every token of it gets the same advantage: [N, 1].
    advantages = group_advantages(rewards, groups)[:, None].to(logprobs.dtype)

    # The tokens were drawn by pi_old, and after the first update that is no longer pi: rho = pi / pi_old corrects for it.
    # Its gradient is rho grad log pi; at rho = 1 the surrogate is REINFORCE, -A grad log pi.
    # (What is masked out is set to 0 before the exponential: it may overflow there, and 0 * inf is not 0.)
    rho = torch.exp(torch.where(mask, logprobs - old_logprobs, 0.0))

    # PPO's clip (arXiv:1707.06347): a token that has already become 1.2 times as likely is pushed no further up, one that
    # has fallen to 0.8 no further down. The minimum keeps the gradient where a step went in the wrong direction.
    surrogate = -torch.minimum(rho * advantages, rho.clamp(1 - clip, 1 + clip) * advantages)

    # KL(pi || pi_ref) from the sampled token alone. With u = log pi_ref - log pi, the average of -u is the KL, but one -u
    # may be negative; e^u - 1 has mean 0, and k3 = e^u - 1 - u is unbiased, never negative, and quiet near u = 0.
    u = torch.where(mask, ref_logprobs - logprobs, 0.0)
    k3 = torch.expm1(u) - u

    # Mean over the tokens of each completion, then over completions: each weighs the same, short or long. So a token of
    # a long completion weighs less; DAPO (arXiv:2503.14476) averages over all tokens, Dr. GRPO divides by a constant.
    lengths = mask.sum(1).clamp(min=1)
    loss = (((surrogate + kl_coef * k3) * mask).sum(1) / lengths).mean()

    moved = ((advantages > 0) & (rho > 1 + clip)) | ((advantages < 0) & (rho < 1 - clip))
    return loss, {"kl": k3[mask].mean().item(), "clipped": moved[mask].double().mean().item()}


# --- the model ---------------------------------------------------------------------------------------


class Policy(nn.Module):
    """A causal transformer over characters: tokens [N, S] to logits [N, S, V], those at place s for the token at s + 1."""

    def __init__(self, width: int = 64, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.token = nn.Embedding(len(VOCABULARY), width)
        self.place = nn.Embedding(PROMPT + LIMIT, width)
        self.blocks = nn.ModuleList(
            # No dropout: the policy that is trained has to be the policy that drew the completions.
            nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(VOCABULARY))

    def forward(self, tokens: Tensor) -> Tensor:
        size = tokens.shape[1]
        x = self.token(tokens) + self.place.weight[:size]
        future = torch.ones(size, size, dtype=torch.bool).triu(1)
        for block in self.blocks:
            x = block(x, src_mask=future)
        logits: Tensor = self.head(self.norm(x))
        return logits


def token_logprobs(policy: Policy, tokens: Tensor) -> Tensor:
    """[N, T] log pi(y_t | x, y_<t) of the completions in ``tokens`` [N, P + T]: the logits one place before each token."""
    logits = policy(tokens[:, :-1])[:, PROMPT - 1 :]
    return F.log_softmax(logits, -1).gather(-1, tokens[:, PROMPT:, None]).squeeze(-1)


@torch.no_grad()
def sample(policy: Policy, prompts: Tensor) -> Tensor:
    """[N, P + T] prompts with completions drawn at temperature 1, without truncation: from pi itself, as the loss assumes."""
    tokens = prompts
    for _ in range(LIMIT):
        probabilities = policy(tokens)[:, -1].softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(probabilities, 1)], 1)
    return tokens


def completion_mask(tokens: Tensor) -> Tensor:
    """[N, T] True up to and with the first end token, which is a choice of the policy like any other.

    What was drawn after it is no part of the completion. It also changes nothing before it: the model is causal.
    """
    ends = (tokens[:, PROMPT:] == END).long()
    return ends.cumsum(1) - ends == 0


# --- the task ----------------------------------------------------------------------------------------


def score(prompt: str, completion: str) -> float:
    """The verifiable reward: 1 if the completion comes to an end, and its last digit is the largest one, else 0."""
    answer, end, _ = completion.partition(".")
    return float(end == "." and answer[-1:] == max(prompt[:3]))


def score_all(tokens: Tensor) -> Tensor:
    texts = ["".join(VOCABULARY[token] for token in row) for row in tokens.tolist()]
    return torch.tensor([score(text[:PROMPT], text[PROMPT:]) for text in texts])


def split() -> tuple[Tensor, Tensor]:
    """All prompts, to train on and held out: a fifth of the 220 multisets of digits is asked in no order during training."""
    digits = torch.cartesian_prod(*[torch.arange(10)] * 3)  # a digit is its own token
    prompts = F.pad(digits, (0, 1), value=VOCABULARY.index("="))
    multisets, of_prompt = digits.sort(1).values.unique(dim=0, return_inverse=True)
    heldout = torch.isin(of_prompt, torch.randperm(len(multisets))[: len(multisets) // 5])
    return prompts[~heldout], prompts[heldout]


# --- training ----------------------------------------------------------------------------------------


def update(policy: Policy, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), 1.0)  # one strange batch cannot throw the policy far
    optimizer.step()


def pretrain(policy: Policy, prompts: Tensor, steps: int = 150, batch: int = 128) -> None:
    """The pretrained model, in small: it has learnt the form of an answer (one to three of the digits, in any order, and
    the end token), not which digit comes last. Rewards can only choose among what a model already does now and then."""
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for _ in range(steps):
        chosen = prompts[torch.randint(len(prompts), (batch,))]
        order = torch.rand(batch, LIMIT - 1).argsort(1)
        answers = F.pad(chosen.gather(1, order), (0, 1), value=END)
        lengths = torch.randint(1, LIMIT, (batch, 1))
        tokens = torch.cat([chosen, answers.where(torch.arange(LIMIT) < lengths, END)], 1)
        mask = completion_mask(tokens)
        update(policy, optimizer, -(token_logprobs(policy, tokens) * mask).sum() / mask.sum())


def train(
    seed: int = 0, steps: int = 40, questions: int = 32, group: int = 8, epochs: int = 2, minibatches: int = 2
) -> list[float]:
    """Pretrain, then GRPO. Returns the accuracy on held-out prompts, one sampled answer each: before, and every 5 steps."""
    torch.manual_seed(seed)
    prompts, heldout = split()
    policy = Policy()
    pretrain(policy, prompts)
    reference = copy.deepcopy(policy)  # frozen: no optimizer knows it
    optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-4, weight_decay=0.0)  # arXiv:1711.05101

    accuracies = [score_all(sample(policy, heldout)).mean().item()]
    print(f"step   0   held-out accuracy {accuracies[-1]:.3f}   (pretrained: any of the digits comes last)")
    for step in range(1, steps + 1):
        # 1. Q prompts, G completions each. Row numbers q G .. q G + G - 1 belong to prompt q.
        asked = prompts[torch.randint(len(prompts), (questions,))]
        groups = torch.arange(questions).repeat_interleave(group)
        tokens = sample(policy, asked[groups])
        mask = completion_mask(tokens)
        rewards = score_all(tokens)

        # 2. What the policy that drew them, and the reference, thought of every token. Fixed during the updates.
        with torch.no_grad():
            old, ref = token_logprobs(policy, tokens), token_logprobs(reference, tokens)

        # 3. Several updates from the same completions. A minibatch is made of whole groups.
        for _ in range(epochs):
            for part in torch.randperm(questions).chunk(minibatches):
                rows = torch.isin(groups, part)
                current = token_logprobs(policy, tokens[rows])
                loss, seen = grpo_loss(current, old[rows], ref[rows], rewards[rows], mask[rows], groups[rows])
                update(policy, optimizer, loss)

        if step % 5 == 0 or step == steps:
            accuracies.append(score_all(sample(policy, heldout)).mean().item())
            print(
                f"step {step:3d}   held-out accuracy {accuracies[-1]:.3f}   reward {rewards.mean():.3f}   "
                f"KL to reference {seen['kl']:.3f}   clipped {seen['clipped']:.3f}   length {mask.sum(1).float().mean():.2f}"
            )
    return accuracies


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="GRPO in one file.")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args().seed)
