"""Each model beside the real system that it is named after: the same question to both, in the same sandbox.

system      a side of a row: a model of ours or a real server, with how to start it and how to speak to it
running     the same when it runs: connect, ask, who owns a connection, stop a worker, kill one, reload, end
signatures  a file a kind: functions from a running system to one figure. They know neither side by name
rows        which signature of which model is held against which real system, how near, and why
trials      inside the sandbox: measures every row, model and real in turn
run         outside: starts the sandbox, judges, stores
"""
