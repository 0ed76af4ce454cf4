"""From a Microsoft Defender for Cloud alert to a proven, time-bound block.

The flow:

    alert → confirmed with Defender → machines → guards → plan → claims → commit → proof → lift

    on_alert   `responder.receive` records the body and leaves a hint; `survey.look` asks Defender for
               the alert, finds the machines and the NSGs their traffic passes, and lets `plan.decide`
               say what to block where, what to skip and what to ask. The plan is recorded, then one
               claim per block, and only then does `commit` write.
    commit     under the NSG's lease: the live blocks → the owned rules → the difference → ARM →
               read back → `proof` → marked in the ledger.
    sweep      follows the hints that are due: lifts, finishes what a crash left, repairs drift.

Read in this order: `model` (the nouns), `errors`, `alerts` (any shape → Alert), `policy` and
`guardrails` (who may be blocked), `plan` (what to do), `nsg`, `prefixes`, `owned`, `proof`, `effective` and
`drift` (rules as data), `topology` (what stands before machines), `ledger` (what is remembered),
`surroundings`, `approvals`, `notify`, `commit_queue`; `survey` (look and decide), `commit` (bring it
about), `responder`, `sweep`; `operators` and `api` (what people ask), `cloud` (the edge), `app` (all of
it wired). `clock`, `gather` and `log` serve all; `settings` and `explain` stand aside.
"""
