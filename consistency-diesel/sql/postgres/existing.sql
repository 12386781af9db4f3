SELECT id, task_id::text, state::bigint FROM consistency_task WHERE task_id = {task_id}
