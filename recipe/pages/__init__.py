"""What people look at: report, comparison, persona clusters, rollouts, chat, with their templates."""
