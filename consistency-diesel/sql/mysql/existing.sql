SELECT id, task_id, state FROM consistency_task WHERE task_id = {task_id} LOCK IN SHARE MODE
