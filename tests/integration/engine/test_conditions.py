from integration.engine.lab import Lab, script


async def test_smoke(lab: Lab) -> None:
    await lab.open(
        """
        models: {main: {provider: scripted, script: scripts/a.yaml}}
        nodes: {think: {type: llm}}
        edges: [{from: START, to: think}, {from: think, to: END}]
        """,
        files={"scripts/a.yaml": script(otherwise={"reply": "You said {{ input }}"})},
    )
    run = await lab.run("hello")
    assert run.status == "completed", run.error
    assert await lab.conversation() == [("user", "hello"), ("assistant", "You said hello")]
