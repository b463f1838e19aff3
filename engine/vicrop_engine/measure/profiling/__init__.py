"""What an answer costs, and where: measured stage by stage, beside what arithmetic alone says."""
