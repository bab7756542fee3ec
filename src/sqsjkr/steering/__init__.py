"""How a worker lets itself be seen and steered: its facts on each heartbeat, its roster entry, orders, the board."""
